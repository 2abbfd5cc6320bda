"""Cluster profiles, and what they make of a stage."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from kd_dist.config.sections.resources import CpuResources, GpuResources, ShardResources, TaskResources
from kd_dist.errors import UserError
from launch.cluster import PROFILES, SECONDS_TO_SAVE, WARNED_AT, Cluster, Resources, load_cluster, slurm_parameters


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
        ("qos: a\nqos: b", "`qos` is there twice"),
        ('partition: "gpu\\n#SBATCH --uid=0"', "partition: Value error, a line break or another"),
        ('sbatch: {comment: "a\\nrm x"}', "sbatch.comment: Value error, a line break or another"),
        ('sbatch: {"comment\\n": x}', "String should match pattern"),
        ('environment: {"A; rm x": y}', "no name of an environment variable"),
        ('environment: {A: "x\\n"}', "environment.A: Value error, a line break or another"),
        ("environment: {HF_TOKEN: abcdefgh}", "HF_TOKEN is a secret"),
        ("setup: [export HF_TOKEN=abcdefgh]", "HF_TOKEN is a secret"),
        ("account: hf_abcdefghijklmnopqrstuvwxyzabcdefgh", "account holds what looks like an access key"),
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
    code, log = Path("/code"), Path("/my log")
    return slurm_parameters(cluster, name="n", resources=resources, code=code, log=log, dependencies=list(dependencies))


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
    assert {"export A='b c'", "export WANDB_MODE=offline"} <= set(lines)


@pytest.mark.parametrize(("before", "expected"), [({}, "/code"), ({"PYTHONPATH": "/a site"}, "/code:/a site")])
def test_the_code_comes_before_packages_that_the_site_adds(before: dict[str, str], expected: str) -> None:
    lines = parameters(Cluster(), CpuResources())["setup"]
    script = "\n".join([*lines, 'echo "$PYTHONPATH"'])
    environment = {"PATH": os.environ["PATH"], "SLURM_CPUS_PER_TASK": "1", **before}
    ended = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == expected


RESTART = ["-m", "launch.requeue", "/my log", "5"]

SITE = Cluster(
    account="a", cpu_account="b", qos="c", cpu_qos="d", sbatch={"comment": "x", "nice": 1},
    gpu_sbatch={"exclusive": True}, cpu_sbatch={"nice": 2}, exclude="node[1-2]", gres="gpu:a100", mem_per_gpu="60G",
    mail_user="me@example.org", mail_type="FAIL",
)  # fmt: skip


def test_stages_with_gpus_and_without_are_charged_and_asked_for_on_their_own() -> None:
    on_gpus, on_cpus = parameters(SITE, GpuResources(gpus_per_node=4)), parameters(SITE, CpuResources())
    assert (on_gpus["account"], on_gpus["qos"], on_cpus["account"], on_cpus["qos"]) == ("a", "c", "b", "d")
    assert on_gpus["additional_parameters"].items() >= {"comment": "x", "nice": 1, "exclusive": True}.items()
    assert on_cpus["additional_parameters"].items() >= {"comment": "x", "nice": 2}.items()
    assert "exclusive" not in on_cpus["additional_parameters"]
    for asked in (on_gpus, on_cpus):
        assert (asked["exclude"], asked["mail_user"], asked["mail_type"]) == ("node[1-2]", "me@example.org", "FAIL")
    only_one = parameters(Cluster(account="a", qos="c"), CpuResources())
    assert (only_one["account"], only_one["qos"]) == ("a", "c")


def test_option_that_is_false_is_not_given() -> None:
    cluster = Cluster(sbatch={"exclusive": True, "hold": False}, cpu_sbatch={"exclusive": False})
    assert parameters(cluster, GpuResources())["additional_parameters"].get("exclusive") is True
    assert not {"exclusive", "hold"} & parameters(cluster, CpuResources())["additional_parameters"].keys()


def test_gpus_of_a_kind_are_asked_for_with_their_memory() -> None:
    asked = parameters(SITE, GpuResources(gpus_per_node=4))
    assert (asked["gres"], asked["mem_per_gpu"]) == ("gpu:a100:4", "60G")
    assert not {"gpus_per_node", "mem"} & asked.keys()
    with_memory = parameters(SITE, GpuResources(memory_gb=9))  # SLURM refuses both
    assert (with_memory["mem"], "mem_per_gpu" in with_memory) == ("9GB", False)
    assert not {"gres", "mem_per_gpu"} & parameters(SITE, CpuResources()).keys()


@pytest.mark.parametrize("text", ["gres: gpu:a100:4", "gres: a100", "mem_per_gpu: lots"])
def test_request_that_would_be_wrong_for_every_stage_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "site.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"{text.split(':')[0]}: String should match pattern"):
        load_cluster(str(tmp_path / "site.yaml"))


def test_failure_of_the_ranks_is_looked_at_and_stays_one(tmp_path: Path) -> None:
    lines = parameters(Cluster(max_restarts=5, setup=[f"trap 'touch {tmp_path}/site' EXIT"]), CpuResources())["setup"]
    looks = f"touch {tmp_path}/looked"
    trap = lines[-1].replace(shlex.quote(shlex.join([sys.executable, *RESTART])), shlex.quote(looks))
    assert looks in trap
    for status, looked in ((0, False), (3, True)):
        ended = subprocess.run(["bash", "-c", "\n".join([*lines[:2], trap, f"sh -c 'exit {status}'"])], check=False)
        assert (ended.returncode, (tmp_path / "looked").exists()) == (status, looked)
        (tmp_path / "site").unlink()  # the site's own trap ran, too


def test_a_warning_is_of_the_time_limit_from_two_minutes_before_it_is_due() -> None:
    (line,) = [line for line in parameters(Cluster(), CpuResources(timeout_minutes=60))["setup"] if WARNED_AT in line]
    shown = subprocess.run(["bash", "-c", f"{line}; echo ${WARNED_AT}"], capture_output=True, text=True, check=True)
    assert int(shown.stdout) - time.time() == pytest.approx(3600 - SECONDS_TO_SAVE - 120, abs=5)
