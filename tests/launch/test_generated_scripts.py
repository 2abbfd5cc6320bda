"""What users name stays in its place in the script of a job, whatever is in it; bash itself reads the script here.

KD_DIST_EXAMPLES=2000 tries more of them than the 60 that every run of the tests does.
"""

import os
import shlex
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kd_dist.config.job import Job
from kd_dist.config.sections.resources import ShardResources
from kd_dist.config.stages import SampleTextStage
from kd_dist.errors import UserError
from kd_dist.runs.layout import run_folder
from launch.cluster import Cluster
from launch.start import continuing_command
from launch.submit import sbatch_text
from tests.launch.launching import program

EXAMPLES = int(os.environ.get("KD_DIST_EXAMPLES", "60"))

NASTY = st.sampled_from(
    ["$(touch PWNED)", "`touch PWNED`", "; touch PWNED;", "\n#SBATCH --uid=0\n", "\ntouch PWNED\n", "'", '"', "\\", "#"]
)
LETTERS = "aZ0 ._-$`'\"\\;&|<>()[]{}*?!#~%=^\n\r\t\x00，实验\u3000\u2028😀"
NAMES = st.text(st.sampled_from(LETTERS), min_size=1, max_size=12)
TEXTS = st.one_of(NAMES, st.lists(NAMES | NASTY, min_size=1, max_size=3).map("".join))
KEYS = st.text(st.sampled_from(string.ascii_letters * 3 + "_-;\n $("), min_size=1, max_size=5)

BEGIN = "#!/bin/bash\n\n# Parameters\n"

LINES = ("partition", "account", "qos", "constraint", "exclude", "mail_user", "mail_type")


def accepted(profile: dict[str, Any]) -> bool:
    try:
        Cluster.model_validate(profile)
    except ValidationError:
        return False
    return True


@st.composite
def profiles(draw: st.DrawFn) -> Cluster:
    """Profiles with whatever a profile may hold."""
    keys = draw(st.sets(st.sampled_from(LINES), max_size=3))
    lines = {key: text for key in keys if accepted({key: (text := draw(TEXTS))})}
    options = draw(st.dictionaries(KEYS, TEXTS | st.integers() | st.booleans(), max_size=4))
    variables = draw(st.dictionaries(KEYS.map("KD_{}".format), TEXTS, max_size=4))
    return Cluster(
        **lines,
        sbatch={key: value for key, value in options.items() if accepted({"sbatch": {key: value}})},
        environment={key: value for key, value in variables.items() if accepted({"environment": {key: value}})},
    )


@st.composite
def run_folders(draw: st.DrawFn) -> Path:
    """Folders of runs with whatever their names may hold."""
    folder, run_id = draw(TEXTS), draw(TEXTS)
    try:
        return run_folder(Path("/tmp") / folder.replace("/", ""), "job", run_id)
    except UserError:
        plain = "".join(letter for letter in folder + run_id if letter.isprintable() and letter not in "/%\\:")
        return run_folder(Path("/tmp") / plain, "job", plain.lstrip("- .") or "a")


@pytest.fixture(scope="module")
def srun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an `srun` that prints its arguments and variables, each ended by a zero byte."""
    folder = tmp_path_factory.mktemp("bin")
    program(folder, "srun", 'printf "%s\\0" "$@"', 'printf "\\0"', "env -0")
    return folder


def what_bash_reads(script: str, folder: Path, srun: Path) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the variables of the ranks, after bash has run the script."""
    environment = {"PATH": f"{srun}:{os.environ['PATH']}", "SLURM_CPUS_PER_TASK": "2"}
    ended = subprocess.run(["bash"], input=script.encode(), cwd=folder, env=environment, capture_output=True)
    assert (ended.returncode, ended.stderr) == (0, b""), (script, ended.stderr)
    arguments, _, variables = ended.stdout.decode().partition("\0\0")
    return arguments.split("\0"), dict(pair.split("=", 1) for pair in variables.split("\0") if pair)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(run_dir=run_folders(), cluster=profiles(), shards=st.integers(1, 2))
def test_nothing_leaves_its_place_in_a_script(
    tmp_path: Path, srun: Path, run_dir: Path, cluster: Cluster, shards: int
) -> None:
    sharded = SampleTextStage().model_copy(update={"resources": ShardResources(shards=shards)})
    job = Job(name="job", description="", stages={"texts": SampleTextStage()}, result="texts")
    job = job.model_copy(update={"stages": {"texts": sharded}})
    script = sbatch_text(job, "texts", run_dir, cluster, run_dir / "code", ["1"])

    head, _, rest = script.partition("# setup\n")
    assert head.startswith(BEGIN)
    read = [shlex.split(line) for line in head.removeprefix(BEGIN).splitlines() if line]
    assert all(words[0] == "#SBATCH" and len(words) == 2 and words[1][:2] == "--" for words in read), head
    options = {key.replace("_", "-"): value for key, value in cluster.sbatch.items() if value is not False}
    named = {key.replace("_", "-"): getattr(cluster, key) for key in LINES if key not in ("partition", "constraint")}
    name = {"job-name": f"job/{run_dir.name}/texts"}
    for key, value in (name | {key: value for key, value in named.items() if value} | options).items():
        assert ["#SBATCH", f"--{key}" if value is True else f"--{key}={value}"] in read

    arguments, variables = what_bash_reads(script, tmp_path, srun)
    log = run_dir / "texts" / "log"
    output = log / ("%A_%a_%t_log.out" if shards > 1 else "%j_%t_log.out")
    assert arguments == [
        *("--unbuffered", "--output", str(output), "--kill-on-bad-exit=1", "env", "--ignore-signal=USR2"),
        *(sys.executable, "-u", "-m", "submitit.core._submit", str(log)),
    ]
    assert variables.items() >= {**cluster.environment, "PYTHONPATH": str(run_dir / "code")}.items()
    assert not list(tmp_path.rglob("PWNED"))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(TEXTS.filter(lambda text: "\0" not in text), max_size=4), run_id=NAMES)
def test_the_command_that_goes_on_is_the_one_that_was_typed(words: list[str], run_id: str) -> None:
    run_id = run_id.replace("\0", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "orig_argv", ["python", "slurm.py", *words])
        patch.setattr(sys, "argv", ["slurm.py", *words])
        command = continuing_command(None, run_id)
    read = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True).stdout
    assert read.decode().split("\0")[:-1] == ["python", "slurm.py", "--run-id", run_id, *words]
