# Every target works on a fresh machine with nothing but Python >= 3.11 and make: the first one installs what is pinned.
# TORCH_INDEX is where torch comes from when the default build does not fit your CUDA version: docs/quickstart.md.
PYTHON ?= python3
BIN := .venv/bin
KILLS ?= 50
SEED ?= 1

.PHONY: install demo test chaos bench check docs format clean

install: .venv/installed

demo: .venv/installed
	$(BIN)/python launch/slurm.py --job demo --cluster local

# Tests run on all cores, one thread each, and those of the cluster after them: SLURM's clocks want a machine to themselves.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests --ignore tests/slurm --numprocesses auto --maxprocesses 8 --dist loadfile
	$(BIN)/python -m pytest tests/slurm

# More of them, and others: make chaos KILLS=200 SEED=2
chaos: .venv/installed
	$(BIN)/python -m pytest tests/chaos tests/slurm -m chaos --kills $(KILLS) --chaos-seed $(SEED)

# Every figure that has an aim, in one table: on an idle machine, in a quarter of an hour.
bench: .venv/installed
	$(BIN)/python benchmarks/bench.py --work build/bench

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/installed
	$(BIN)/python docs/generate.py

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check $(addprefix --index-url ,$(TORCH_INDEX)) $(shell grep '^torch==' requirements.txt)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -r requirements.txt
	@# pip compiles on one core. Like pip, ignore the files that packages bring for a newer Python.
	$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	@touch $@
