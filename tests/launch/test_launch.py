"""The command line, cluster profiles, snapshots, submission, status, and runs on this machine."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from submitit.core.utils import DelayedSubmission

from kd_dist.config.job import Job
from kd_dist.config.jobs import find_job, job_names, load_job
from kd_dist.config.paths import REPOSITORY, with_absolute_paths
from kd_dist.config.sections.data import AugmentedData, PlainTokenData
from kd_dist.config.sections.models import Teacher
from kd_dist.config.sections.resources import CpuResources, GpuResources, ShardResources, TaskResources
from kd_dist.config.stages import AugmentedStage, AugmentStage, SampleTextStage
from kd_dist.errors import RunError, UserError
from kd_dist.files import write_json
from kd_dist.runs.completion import complete, is_complete
from kd_dist.runs.fingerprints import stage_fingerprint
from kd_dist.runs.layout import open_run
from launch import local
from launch.cluster import PROFILES, Cluster, Resources, load_cluster, slurm_parameters
from launch.submit import print_plan, require_idle, snapshot, submit
from launch.task import StageTask
from tests.model_folders import write_vocabulary, write_weights

BERT = {"model_type": "bert", "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768}
LOCAL = Cluster(executor="local")


def command(folder: Path, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`python launch/slurm.py ...` in that folder; the programs in `path` come before installed ones."""
    search = f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "launch" / "slurm.py"), *arguments],
        cwd=folder,
        env={**os.environ, "PATH": search, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


def shown(folder: Path, *arguments: str, path: Path | None = None) -> str:
    ended = command(folder, *arguments, path=path)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("今天天气很好。\n", encoding="utf-8")
    return path


@pytest.fixture
def settings(tmp_path: Path, corpus: Path) -> list[str]:
    """Settings of tinybert_general that need no download."""
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "config.json").write_text(json.dumps(BERT), encoding="utf-8")
    write_weights(tmp_path / "teacher", BERT)
    write_vocabulary(tmp_path / "teacher")
    return [f"data.corpus={corpus}", f"teacher.path={tmp_path / 'teacher'}"]


# ------------------------------------------------------------ looking at a job


def test_list_names_every_job_with_one_line_each(tmp_path: Path) -> None:
    lines = shown(tmp_path, "--list").splitlines()
    assert [line.split()[0] for line in lines] == job_names()
    assert all(find_job(line.split()[0]).description in line for line in lines)


def test_options_show_every_key(tmp_path: Path) -> None:
    text = shown(tmp_path, "--job", "tinybert_general", "--options")
    for stage in find_job("tinybert_general").stages.values():
        assert [key for key in stage.options() if key not in text] == []


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dry run of the defaults: no corpus, no teacher, no SLURM; then the modules that it imported."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "bin").mkdir()
    script = (
        "import runpy, sys\n"
        f"sys.argv = ['slurm.py', '--job', 'tinybert_general', '--dry-run', '--run-id', 'a', 'train.steps=7']\n"
        "try:\n"
        f"    runpy.run_path({str(REPOSITORY / 'launch' / 'slurm.py')!r}, run_name='__main__')\n"
        "except SystemExit as ended:\n"
        "    assert not ended.code, ended.code\n"
        "print('MODULES', *sys.modules)\n"
    )
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": str(folder / "bin")},
        capture_output=True,
        text=True,
    )
    assert time.monotonic() - began < 5
    assert ended.returncode == 0, ended.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["bin"], "a dry run wrote something"
    return ended.stdout


def test_dry_run_imports_nothing_heavy(plan: str) -> None:
    modules = set(plan.rpartition("MODULES")[2].split())
    assert "launch.submit" in modules
    assert not modules & {"torch", "transformers", "deepspeed", "datasets", "wandb", "huggingface_hub"}


def test_dry_run_shows_stages_in_order_with_their_resources(plan: str) -> None:
    assert re.findall(r"=== (\w+): (.*); (.*)", plan) == [
        ("prepare", "at once", "8 CPU cores, 240 minutes"),
        ("distill", "after prepare", "1 node x 1 = 1 ranks, 1440 minutes"),
        ("report", "after distill", "1 CPU cores, 30 minutes"),
    ]


def test_dry_run_shows_the_resolved_configuration(plan: str) -> None:
    assert '"steps": 7' in plan
    assert '"tokens": "@prepare/tokens"' in plan
    assert '"learning_rate": 0.0001' in plan


def test_dry_run_shows_the_sbatch_file_of_every_stage(plan: str) -> None:
    assert plan.count("#!/bin/bash") == 3
    assert plan.count("#SBATCH --gpus-per-node=1") == 1
    assert "#SBATCH --dependency='afterok:<job id of prepare>'" in plan
    assert plan.count("--kill-on-bad-exit=1") == 3


def test_dry_run_on_this_machine_shows_no_sbatch_file(tmp_path: Path) -> None:
    text = shown(tmp_path, "--job", "demo", "--dry-run", "--cluster", "local")
    assert "=== distill" in text
    assert "#SBATCH" not in text


def test_dry_run_says_what_would_be_skipped(tmp_path: Path, settings: list[str]) -> None:
    job = with_absolute_paths(load_job("tinybert_general", settings))
    complete(open_run(job, tmp_path / "runs", "a") / "prepare", seconds=1.0)
    text = shown(tmp_path, "--job", "tinybert_general", "--dry-run", "--run-id", "a", *settings)
    assert "=== prepare: complete, will be skipped" in text
    assert "=== distill: after prepare" in text


def test_dry_run_skips_nothing_behind_a_removed_stage(tmp_path: Path, settings: list[str]) -> None:
    _, run_dir = opened(tmp_path, settings, "report")
    shutil.rmtree(run_dir / "prepare")
    text = shown(tmp_path, "--job", "tinybert_general", "--dry-run", "--run-id", "a", *settings)
    assert re.findall(r"=== (\w+: \w+)", text) == ["prepare: at", "distill: after", "report: after"]
    assert is_complete(run_dir / "distill")  # it only looked


def test_job_json_runs_again(tmp_path: Path, settings: list[str]) -> None:
    job = with_absolute_paths(load_job("tinybert_general", [*settings, "train.steps=7"]))
    written = open_run(job, tmp_path / "runs", "a") / "job.json"
    text = shown(tmp_path, "--job", "tinybert_general", "--dry-run", "--config", str(written))
    assert '"steps": 7' in text
    assert str(tmp_path / "corpus.txt") in text


# ------------------------------------------------------------ cluster profiles


@pytest.mark.parametrize("file", sorted(PROFILES.glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_profile_loads(file: Path) -> None:
    assert load_cluster(file.stem) == load_cluster(str(file))


def test_example_profile_shows_every_key() -> None:
    shown_keys = yaml.safe_load((PROFILES / "example.yaml").read_text(encoding="utf-8"))
    assert set(shown_keys) == set(Cluster.model_fields)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("qoss: x", "unknown key `qoss`; did you mean `qos`?"),
        ("executor: pbs", "executor: Input should be 'slurm' or 'local'"),
        ("- slurm", "expected `key: value` lines, found list"),
        ("a: [", "is not valid YAML"),
        ("seconds_to_save: soon\nqoss: x", "2 problems:"),
    ],
)
def test_bad_profile_is_explained(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "site.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        load_cluster(str(tmp_path / "site.yaml"))
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("text", ["", "setup:\n"])
def test_empty_profile_is_the_defaults(tmp_path: Path, text: str) -> None:
    (tmp_path / "site.yml").write_text(text, encoding="utf-8")
    assert load_cluster(str(tmp_path / "site.yml")) == Cluster()


def parameters(cluster: Cluster, resources: Resources, *dependencies: str) -> dict[str, Any]:
    code = Path("/code")
    return slurm_parameters(cluster, name="n", resources=resources, code=code, dependencies=list(dependencies))


def test_training_stage_gets_a_task_per_gpu() -> None:
    asked = parameters(Cluster(partition="gpu", cpu_partition="cpu"), GpuResources(nodes=2, gpus_per_node=4))
    assert {key: asked[key] for key in ("partition", "nodes", "ntasks_per_node", "gpus_per_node", "cpus_per_task")} == {
        "partition": "gpu",
        "nodes": 2,
        "ntasks_per_node": 4,
        "gpus_per_node": 4,
        "cpus_per_task": 4,
    }


def test_cpu_stage_gets_no_gpus() -> None:
    asked = parameters(Cluster(partition="gpu", cpu_partition="cpu"), CpuResources(cpus=16, memory_gb=8))
    assert "gpus_per_node" not in asked
    assert (asked["partition"], asked["ntasks_per_node"], asked["cpus_per_task"]) == ("cpu", 1, 16)
    assert asked["mem"] == "8GB"


@pytest.mark.parametrize(
    ("gpus", "partition", "constraint", "asked_gpus"), [(1, "gpu", "a100", 1), (0, "cpu", None, None)]
)
def test_stage_of_one_process_goes_where_it_gets_what_it_needs(
    gpus: int, partition: str, constraint: str | None, asked_gpus: int | None
) -> None:
    cluster = Cluster(partition="gpu", cpu_partition="cpu", constraint="a100", max_cpus_per_node=6)
    asked = parameters(cluster, ShardResources(gpus=gpus, cpus=8, shards=4))
    assert (asked["partition"], asked.get("constraint"), asked.get("gpus_per_node")) == (
        partition,
        constraint,
        asked_gpus,
    )
    assert (asked["nodes"], asked["ntasks_per_node"], asked["cpus_per_task"]) == (1, 1, 6)


@pytest.mark.parametrize(
    ("cluster", "resources", "needed"),
    [
        (Cluster(), GpuResources(), True),
        (Cluster(), TaskResources(), True),
        (Cluster(), TaskResources(gpus=0), False),
        (Cluster(), CpuResources(), False),
        (Cluster(request_gpus=False), TaskResources(), False),
    ],
)
def test_gpus_are_missed_only_where_they_were_asked_for(cluster: Cluster, resources: Resources, needed: bool) -> None:
    asked = parameters(cluster, resources)
    assert ("export KD_DIST_NEEDS_GPUS=1" in asked["setup"]) == ("gpus_per_node" in asked) == needed


def test_cpu_stage_falls_back_to_the_partition() -> None:
    assert parameters(Cluster(partition="all"), CpuResources())["partition"] == "all"


def test_cluster_without_gpus_is_asked_for_none() -> None:
    asked = parameters(Cluster(request_gpus=False), GpuResources(gpus_per_node=2))
    assert "gpus_per_node" not in asked
    assert asked["ntasks_per_node"] == 2


@pytest.mark.parametrize(
    ("resources", "cpus"), [(GpuResources(gpus_per_node=2), 1), (GpuResources(), 3), (CpuResources(cpus=8), 3)]
)
def test_no_more_cpus_than_a_node_has(resources: CpuResources | GpuResources, cpus: int) -> None:
    assert parameters(Cluster(max_cpus_per_node=3), resources)["cpus_per_task"] == cpus


def test_stage_waits_for_all_that_feed_it() -> None:
    assert parameters(Cluster(), CpuResources(), "1", "2")["dependency"] == "afterok:1:2"
    assert "dependency" not in parameters(Cluster(), CpuResources())


def test_failing_rank_ends_the_others_and_preempted_jobs_go_back_to_the_queue() -> None:
    asked = parameters(Cluster(sbatch={"exclusive": True}), GpuResources())
    assert asked["srun_args"] == ["--kill-on-bad-exit=1"]
    assert asked["additional_parameters"] == {"requeue": True, "kill_on_invalid_dep": "yes", "exclusive": True}


@pytest.mark.parametrize(("minutes", "seconds"), [(1440, 300), (5, 150)])
def test_warning_comes_in_time_but_not_before_the_middle(minutes: int, seconds: int) -> None:
    assert parameters(Cluster(), GpuResources(timeout_minutes=minutes))["signal_delay_s"] == seconds


def test_setup_stops_at_the_first_failing_line() -> None:
    cluster = Cluster(setup=["false"], environment={"A": "b c"}, wandb_mode="offline")
    lines = parameters(cluster, CpuResources())["setup"]
    assert lines[:2] == ["set -e", "false"]
    assert {"export PYTHONPATH=/code", "export A='b c'", "export WANDB_MODE=offline"} <= set(lines)


# ------------------------------------------------------------ snapshots


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return snapshot(tmp_path_factory.mktemp("run"))


def test_unchanged_code_is_copied_once(tmp_path: Path) -> None:
    first = snapshot(tmp_path)
    assert snapshot(tmp_path) == first
    assert [path.name for path in (tmp_path / "code").iterdir()] == [first.name]


def test_changed_code_gets_a_copy_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: Path) -> None:
    edited = tmp_path / "edited"
    shutil.copytree(code, edited)
    (edited / "kd_dist" / "losses.py").write_text("", encoding="utf-8")
    monkeypatch.setattr("launch.submit.REPOSITORY", edited)
    assert snapshot(tmp_path).name != code.name


def test_snapshot_knows_its_commit(code: Path) -> None:
    assert set(json.loads((code / "GIT_STATE.json").read_text(encoding="utf-8"))) == {"commit", "modified"}


def test_snapshot_suffices_to_run(code: Path, tmp_path: Path) -> None:
    modules = ("launch.task", "jobs.tinybert_general", "kd_dist.config.paths as c", "kd_dist.data.corpus")
    imports = f"import {', '.join(modules)}"
    script = (
        f"{imports}, sys; print(c.model_config_file('tinybert_4l_312'));"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] in ('launch', 'jobs', 'kd_dist')))"
    )
    environment = {**os.environ, "PYTHONPATH": str(code)}
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    files = ended.stdout.split()
    assert len(files) > 8
    assert [file for file in files if not file.startswith(str(code))] == []


# ------------------------------------------------------------ submission

SBATCH = """#!/bin/bash
echo "$(($(cat $0.count 2>/dev/null || echo 100) + 1))" > $0.count
[ "$(cat $0.count)" = "$(cat $0.refuse 2>/dev/null)" ] && echo "sbatch: error: invalid partition" >&2 && exit 1
echo "Submitted batch job $(cat $0.count)"
"""


@pytest.fixture
def scheduler(tmp_path: Path) -> Path:
    """A folder of programs that answer like SLURM's: jobs get the numbers 101, 102, ... and are never known later."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "squeue": "", "sacct": "", "srun": "", "scontrol": ""}.items():
        (folder / name).write_text(text or "#!/bin/sh\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder


def submitted(folder: Path) -> dict[str, str]:
    return json.loads((folder / "runs/tinybert_general/a/submission.json").read_text(encoding="utf-8"))


def test_stages_are_submitted_with_edges_between_them(tmp_path: Path, settings: list[str], scheduler: Path) -> None:
    text = shown(tmp_path, "--job", "tinybert_general", "--run-id", "a", *settings, path=scheduler)
    assert submitted(tmp_path) == {"prepare": "101", "distill": "102", "report": "103"}
    for line in ("prepare: job 101", "distill: job 102, after 101", "--status"):
        assert line in text


def test_submitted_file_is_the_one_that_the_dry_run_shows(tmp_path: Path, settings: list[str], scheduler: Path) -> None:
    arguments = ["--job", "tinybert_general", "--run-id", "a", *settings]
    plan = shown(tmp_path, *arguments, "--dry-run", path=scheduler)
    shown(tmp_path, *arguments, path=scheduler)
    run_dir = tmp_path / "runs/tinybert_general/a"
    (code,) = (run_dir / "code").iterdir()
    for known, real in {"'afterok:<job id of prepare>'": "afterok:101", "<job id of distill>": "102"}.items():
        plan = plan.replace(known, real)
    for stage in ("prepare", "distill"):
        text = next((run_dir / stage / "log").glob("*.sh")).read_text(encoding="utf-8")
        assert text.strip().replace(str(code), "CODE") in plan.replace(f"'{run_dir}/code/<snapshot>'", "CODE")


@pytest.fixture
def sharded(tmp_path: Path) -> Job:
    """A job whose first stage runs in three shards."""
    augment = AugmentStage(
        teacher=Teacher(path=str(tmp_path)),
        data=PlainTokenData(tokens=str(tmp_path)),
        resources=ShardResources(shards=3, gpus=0),
    )
    collect = AugmentedStage(data=AugmentedData(tokens=str(tmp_path), shards="@augment/shards"))
    return Job(
        name="sharded", description="x", stages={"augment": augment, "collect": collect}, result="collect", notes=["!"]
    )


def finish_shard(stage_dir: Path, shard: int, shards: int) -> None:
    content = {"fingerprint": stage_fingerprint(stage_dir), "shards": shards, "seconds": 1.0}
    write_json(stage_dir / f"shard_{shard:05d}.COMPLETE", content)


def test_array_has_an_element_for_each_shard_and_the_next_stage_waits_for_all(
    tmp_path: Path, sharded: Job, scheduler: Path, monkeypatch: pytest.MonkeyPatch, code: Path
) -> None:
    monkeypatch.setenv("PATH", f"{scheduler}:{os.environ['PATH']}")
    run_dir = open_run(sharded, tmp_path / "runs", "a")
    assert submit(sharded, run_dir, Cluster(), code) == {"augment": "101", "collect": "102"}
    log = run_dir / "augment" / "log"
    assert "#SBATCH --array=0-2%3" in (log / "101_submission.sh").read_text(encoding="utf-8")
    tasks = [DelayedSubmission.load(log / f"101_{index}_submitted.pkl").function for index in range(3)]
    assert [(task.stage_dir, task.shard) for task in tasks] == [(run_dir / "augment", shard) for shard in range(3)]
    after = (run_dir / "collect" / "log" / "102_submission.sh").read_text(encoding="utf-8")
    assert "#SBATCH --dependency=afterok:101\n" in after


@pytest.mark.parametrize(("finished", "left"), [([1], [0, 2]), ([0, 1], [2]), ([0, 1, 2], [0])])
def test_only_unfinished_shards_are_submitted_again(
    tmp_path: Path,
    sharded: Job,
    scheduler: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: Path,
    finished: list[int],
    left: list[int],
) -> None:
    monkeypatch.setenv("PATH", f"{scheduler}:{os.environ['PATH']}")
    run_dir = open_run(sharded, tmp_path / "runs", "a")
    for shard in finished:
        finish_shard(run_dir / "augment", shard, shards=3)
    submit(sharded, run_dir, Cluster(), code)
    log = run_dir / "augment" / "log"
    tasks = [DelayedSubmission.load(path).function for path in sorted(log.glob("*_submitted.pkl"))]
    assert [task.shard for task in tasks] == left
    assert ("--array=" in (log / "101_submission.sh").read_text(encoding="utf-8")) == (len(left) > 1)


def test_requeued_element_runs_its_shard_again(tmp_path: Path) -> None:
    requeued = StageTask(tmp_path, 2).checkpoint().function
    assert (requeued.stage_dir, requeued.shard) == (tmp_path, 2)


def test_dry_run_shows_arrays_and_notes(tmp_path: Path, sharded: Job, capfd: pytest.CaptureFixture[str]) -> None:
    print_plan(sharded, tmp_path / "runs" / "sharded" / "a", Cluster())
    text = capfd.readouterr().out
    assert "note: !\n" in text
    assert "=== augment: at once; 3 shards of 8 CPU cores, 240 minutes" in text
    assert "#SBATCH --array=0-2%3" in text
    assert "#SBATCH --dependency='afterok:<job id of augment>'" in text


def test_complete_stages_are_not_submitted(tmp_path: Path, settings: list[str], scheduler: Path) -> None:
    job = with_absolute_paths(load_job("tinybert_general", settings))
    complete(open_run(job, tmp_path / "runs", "a") / "prepare", seconds=1.0)
    text = shown(tmp_path, "--job", "tinybert_general", "--run-id", "a", *settings, path=scheduler)
    assert "prepare: complete, skipped" in text
    assert submitted(tmp_path) == {"distill": "101", "report": "102"}


def test_refusal_by_slurm_is_explained(tmp_path: Path, settings: list[str], scheduler: Path) -> None:
    (scheduler / "sbatch.refuse").write_text("102", encoding="utf-8")
    ended = command(tmp_path, "--job", "tinybert_general", "--run-id", "a", *settings, path=scheduler)
    assert ended.returncode == 2
    assert "error: stage distill was refused by SLURM: sbatch: error: invalid partition" in ended.stderr
    assert "submitted before it: 101" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_run_that_is_still_queued_is_not_submitted_again(tmp_path: Path, settings: list[str], scheduler: Path) -> None:
    arguments = ["--job", "tinybert_general", "--run-id", "a", *settings]
    shown(tmp_path, *arguments, path=scheduler)
    (scheduler / "squeue").write_text("#!/bin/sh\necho '102|PENDING'\n", encoding="utf-8")
    ended = command(tmp_path, *arguments, path=scheduler)
    assert ended.returncode == 2
    assert "run a is still queued or running: distill (102, PENDING); scancel it first" in ended.stderr


def test_run_id_of_another_configuration_is_refused(tmp_path: Path, settings: list[str], scheduler: Path) -> None:
    job = with_absolute_paths(load_job("tinybert_general", settings))
    complete(open_run(job, tmp_path / "runs", "a") / "distill", seconds=1.0)
    arguments = ["--job", "tinybert_general", "--run-id", "a", *settings, "train.seed=1"]
    ended = command(tmp_path, *arguments, path=scheduler)
    assert ended.returncode == 2
    assert "distill.train.seed: 42 -> 1\nchoose another --run-id" in ended.stderr
    assert not (scheduler / "sbatch.count").exists()


def test_failed_rehearsal_stops_the_submission(tmp_path: Path, settings: list[str], scheduler: Path) -> None:
    arguments = ["--job", "tinybert_general", "--run-id", "a", *settings, "--rehearse"]
    shown(tmp_path, *arguments, "--dry-run", path=scheduler)  # rehearses nothing
    ended = command(tmp_path, *arguments, path=scheduler)
    assert ended.returncode == 2
    assert "the rehearsal failed, see above: nothing was submitted" in ended.stderr  # the teacher has no tokenizer
    assert not (scheduler / "sbatch.count").exists()
    assert not (tmp_path / "runs").exists()
    shutil.rmtree(re.findall(r"in (\S*)/tinybert_general/rehearsal", ended.stderr)[-1])


def test_seeds_of_a_job_without_seeded_stages_are_refused(tmp_path: Path, settings: list[str]) -> None:
    ended = command(tmp_path, "--job", "tinybert_general", *settings, "--seeds", "2", "--dry-run")
    assert (ended.returncode, "has no stage that can be repeated" in ended.stderr) == (2, True)


# ------------------------------------------------------------ status


def metrics(run_dir: Path, *, step: int, speed: float) -> None:
    row = {"global_step": step, "train/loss": 1.23456, "speed/samples_per_second": speed, "epoch": 0.5}
    lines = [json.dumps(row), json.dumps({"global_step": step, "evaluation/loss": 9.9}), '{"cut off']
    (run_dir / "distill" / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture
def run_dir(tmp_path: Path, settings: list[str]) -> Path:
    return open_run(
        with_absolute_paths(load_job("tinybert_general", [*settings, "train.steps=300"])), tmp_path / "runs", "a"
    )


def test_status_shows_step_loss_and_time_left(tmp_path: Path, run_dir: Path) -> None:
    complete(run_dir / "prepare", seconds=1.0)
    metrics(run_dir, step=30, speed=25.6)
    text = shown(tmp_path, "--status", str(run_dir))
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert cells == [
        ["prepare", "COMPLETED", "", "", "", "", ""],
        ["distill", "STARTED", "", "30/300", "1.2346", "25.6", "0:45:00"],
        ["report", "WAITING", "", "", "", "", ""],
    ]


def test_status_of_a_stage_whose_folder_was_removed(tmp_path: Path, run_dir: Path) -> None:
    shutil.rmtree(run_dir / "distill")
    assert re.search(r"distill +│ REMOVED", shown(tmp_path, "--status", str(run_dir)))


def test_status_counts_days(tmp_path: Path, run_dir: Path) -> None:
    metrics(run_dir, step=30, speed=0.2)
    assert "4 days, 0:00:00" in shown(tmp_path, "--status", str(run_dir))


def test_status_estimates_the_steps_of_an_epoch_count(tmp_path: Path, settings: list[str]) -> None:
    job = with_absolute_paths(load_job("tinybert_general", settings))
    run_dir = open_run(job, tmp_path / "runs", "b")
    metrics(run_dir, step=50, speed=256.0)
    assert "50/300" in shown(tmp_path, "--status", str(run_dir))


def test_status_shows_what_slurm_says(tmp_path: Path, run_dir: Path, scheduler: Path) -> None:
    (run_dir / "submission.json").write_text(json.dumps({"prepare": "101", "distill": "102"}), encoding="utf-8")
    (scheduler / "sacct").write_text("#!/bin/sh\necho '101|CANCELLED by 0'\necho '102|RUNNING'\n", encoding="utf-8")
    (scheduler / "squeue").write_text("#!/bin/sh\necho '102|PENDING'\n", encoding="utf-8")
    text = shown(tmp_path, "--status", str(run_dir), path=scheduler)
    assert re.search(r"prepare +│ CANCELLED +│ 101", text)
    assert re.search(r"distill +│ PENDING +│ 102", text)


def test_status_counts_the_shards_of_an_array(tmp_path: Path, sharded: Job, scheduler: Path) -> None:
    run_dir = open_run(sharded, tmp_path / "runs", "a")
    finish_shard(run_dir / "augment", 1, shards=3)
    (run_dir / "submission.json").write_text(json.dumps({"augment": "101", "collect": "102"}), encoding="utf-8")
    (scheduler / "sacct").write_text("#!/bin/sh\necho '101_1|COMPLETED'\n", encoding="utf-8")
    queue = "#!/bin/sh\necho '101_0|RUNNING'\necho '101_2|RUNNING'\necho '102|PENDING'\n"
    (scheduler / "squeue").write_text(queue, encoding="utf-8")
    text = shown(tmp_path, "--status", str(run_dir), path=scheduler)
    assert re.search(r"augment +│ 1 COMPLETED, 2 RUNNING +│ 101 +│ 1/3 shards", text)
    assert re.search(r"collect +│ PENDING +│ 102", text)


def test_run_with_a_live_element_of_an_array_is_not_submitted_again(
    tmp_path: Path, sharded: Job, scheduler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{scheduler}:{os.environ['PATH']}")
    run_dir = open_run(sharded, tmp_path / "runs", "a")
    (run_dir / "submission.json").write_text(json.dumps({"augment": "101"}), encoding="utf-8")
    queue = "#!/bin/sh\necho '101_0|FAILED'\necho '101_2|RUNNING'\n"
    (scheduler / "squeue").write_text(queue, encoding="utf-8")
    with pytest.raises(UserError, match=r"augment \(101, 1 FAILED, 1 RUNNING\); scancel it first"):
        require_idle(run_dir)


# ------------------------------------------------------------ runs on this machine


def fake_code(folder: Path, text: str) -> Path:
    """Code whose ranks do what `text` says."""
    (folder / "fake" / "launch").mkdir(parents=True)
    (folder / "fake" / "launch" / "__init__.py").touch()
    body = f"import os, signal, sys, time\nrank = os.environ['RANK']\n{text}\n"
    (folder / "fake" / "launch" / "task.py").write_text(body, encoding="utf-8")
    return folder / "fake"


def opened(tmp_path: Path, settings: list[str], stage: str, *more: str) -> tuple[Job, Path]:
    """A run of tinybert_general in which all stages but one are complete."""
    job = with_absolute_paths(load_job("tinybert_general", [*settings, *more]))
    run_dir = open_run(job, tmp_path / "runs", "a")
    for name in set(job.stages) - {stage}:
        complete(run_dir / name, seconds=1.0)
    return job, run_dir


def test_stages_run_one_after_another(tmp_path: Path, code: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stages = {"texts": SampleTextStage(), "more": SampleTextStage()}
    job = Job(name="texts", description="twice", stages=stages, result="texts")
    run_dir = open_run(job, tmp_path / "runs", "a")
    assert local.run(job, run_dir, LOCAL, code) == 0
    assert [is_complete(run_dir / name) for name in stages] == [True, True]
    assert capfd.readouterr().out.splitlines() == [
        "texts: started on 1 rank",
        "more: started on 1 rank",
        f"done: {run_dir}",
    ]


def test_ranks_run_the_snapshot_whatever_the_working_folder(
    tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    job, run_dir = opened(tmp_path, settings, "prepare")
    code = fake_code(tmp_path, "open(sys.argv[1] + '/ran', 'w').write(__file__)")
    assert local.run(job, run_dir, LOCAL, code) == 0
    assert (run_dir / "prepare" / "ran").read_text(encoding="utf-8") == str(code / "launch" / "task.py")


def test_ranks_get_torchs_variables(tmp_path: Path, settings: list[str]) -> None:
    job, run_dir = opened(tmp_path, settings, "distill", "resources.gpus_per_node=2")
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "A"]
    code = fake_code(tmp_path, f"open(sys.argv[1] + '/' + rank, 'w').write(' '.join(os.environ[n] for n in {names}))")
    assert local.run(job, run_dir, LOCAL.model_copy(update={"environment": {"A": "b"}}), code) == 0
    assert (run_dir / "distill" / "0").read_text(encoding="utf-8") == "0 0 2 2 127.0.0.1 b"
    assert (run_dir / "distill" / "1").read_text(encoding="utf-8") == "1 1 2 2 127.0.0.1 b"


def test_corpus_that_is_gone_when_the_stage_starts_is_one_message(
    tmp_path: Path, settings: list[str], corpus: Path, code: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job, run_dir = opened(tmp_path, settings, "prepare")
    corpus.unlink()
    assert local.run(job, run_dir, LOCAL, code) == 1  # work had begun
    told = capfd.readouterr().err
    assert told.count("error: ") == 1
    assert "Traceback" not in told
    assert "stage prepare failed" in told
    assert "--run-id a goes on from there" in told
    assert not is_complete(run_dir / "prepare")


def test_later_stages_do_not_start_after_a_failed_one(
    tmp_path: Path, settings: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    job, run_dir = opened(tmp_path, settings, "prepare")
    (run_dir / "distill" / "COMPLETE").unlink()
    assert local.run(job, run_dir, LOCAL, fake_code(tmp_path, "sys.exit(3)")) == 3
    assert "distill: started" not in capfd.readouterr().out


def test_failing_rank_ends_the_others_and_gives_its_status(
    tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "SECONDS_TO_FOLLOW", 0.2)
    job, run_dir = opened(tmp_path, settings, "distill", "resources.gpus_per_node=2")
    code = fake_code(tmp_path, "sys.exit(3) if rank == '1' else time.sleep(30)")
    began = time.monotonic()
    assert local.run(job, run_dir, LOCAL, code) == 3
    assert time.monotonic() - began < 20


def test_rank_that_is_killed_is_told_by_its_signal(tmp_path: Path, settings: list[str]) -> None:
    job, run_dir = opened(tmp_path, settings, "prepare")
    with pytest.raises(RunError, match="stage prepare: a rank was ended by SIGKILL; look into") as caught:
        local.run(job, run_dir, LOCAL, fake_code(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)"))
    assert caught.value.exit_status == 1


def test_signal_is_handed_to_the_ranks_and_ends_the_run(
    tmp_path: Path, settings: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    job, run_dir = opened(tmp_path, settings, "prepare")
    text = (
        "signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1] + '/saved', 'w'), os._exit(143)))\n"
        "time.sleep(0.3); os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    )
    assert local.run(job, run_dir, LOCAL, fake_code(tmp_path, text)) == 143
    assert (run_dir / "prepare" / "saved").exists()
    assert "stopped by SIGTERM; the same command with --run-id a goes on from there" in capfd.readouterr().err


def in_shards(tmp_path: Path, sharded: Job) -> Path:
    run_dir = open_run(sharded, tmp_path / "runs", "a")
    complete(run_dir / "collect", seconds=1.0)
    return run_dir


NAMES = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"]
NOTE = (
    "shard = int(sys.argv[2])\n"
    f"open(f'{{sys.argv[1]}}/{{shard}}', 'w').write(' '.join(os.environ[name] for name in {NAMES}))"
)


def test_shards_run_one_at_a_time_without_gpus(tmp_path: Path, sharded: Job, capfd: pytest.CaptureFixture[str]) -> None:
    run_dir = in_shards(tmp_path, sharded)
    finish_shard(run_dir / "augment", 1, shards=3)
    code = fake_code(tmp_path, f"{NOTE}\nprint('shard', shard, flush=True)")
    assert local.run(sharded, run_dir, LOCAL, code) == 0
    told = capfd.readouterr().out.splitlines()
    assert told[:3] == ["augment: started on 2 shards, 1 at a time", "shard 0", "shard 2"]
    assert [(run_dir / "augment" / shard).read_text(encoding="utf-8") for shard in "02"] == ["0 1 0 1"] * 2
    assert not (run_dir / "augment" / "1").exists()


def test_shards_run_side_by_side_on_the_gpus(tmp_path: Path, sharded: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "num_gpus", lambda: 2)
    resources = ShardResources(shards=3, gpus=1)
    stages = sharded.stages | {"augment": sharded.stages["augment"].model_copy(update={"resources": resources})}
    job = sharded.model_copy(update={"stages": stages})
    run_dir = in_shards(tmp_path, job)
    # The first two wait for each other; the third can only run when one of them has ended.
    wait = "while shard < 2 and not os.path.exists(f'{sys.argv[1]}/{1 - shard}'): time.sleep(0.01)"
    assert local.run(job, run_dir, LOCAL, fake_code(tmp_path, f"{NOTE}\n{wait}\nprint('shard', shard)")) == 0
    places = [(run_dir / "augment" / shard).read_text(encoding="utf-8") for shard in "012"]
    assert places[:2] == ["0 1 0 2", "0 1 1 2"]
    assert places[2] in places[:2]
    assert (run_dir / "augment" / "log" / "shard_00001.txt").read_text(encoding="utf-8").startswith("shard 1")


def test_no_shard_starts_after_a_failed_one(tmp_path: Path, sharded: Job) -> None:
    run_dir = in_shards(tmp_path, sharded)
    assert local.run(sharded, run_dir, LOCAL, fake_code(tmp_path, f"{NOTE}\nsys.exit(3 * shard)")) == 3
    assert [(run_dir / "augment" / shard).exists() for shard in "012"] == [True, True, False]


def test_no_shard_starts_after_a_signal(tmp_path: Path, sharded: Job) -> None:
    run_dir = in_shards(tmp_path, sharded)
    code = fake_code(tmp_path, f"{NOTE}\nos.kill(os.getppid(), signal.SIGTERM); time.sleep(60)")
    assert local.run(sharded, run_dir, LOCAL, code) == 143
    assert [(run_dir / "augment" / shard).exists() for shard in "012"] == [True, False, False]


@pytest.mark.parametrize(
    ("visible", "number"), [(None, 4), ("0,1", 2), ("3", 1), ("", 0), ("-1", 0), ("0,-1,1", 1), ("NoDevFiles", 0)]
)
def test_gpus_are_counted_as_far_as_they_are_visible(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, number: int
) -> None:
    monkeypatch.setattr("pynvml.nvmlInit", lambda: None)
    monkeypatch.setattr("pynvml.nvmlDeviceGetCount", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local.num_gpus() == number
