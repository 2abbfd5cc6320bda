"""The dashboard of a job arrives at W&B with the panels that the job calls for, and is brought up to date."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ranks import ROOT
from tests.runs.wandb_server import StandIn, stand_in


@pytest.fixture
def server() -> Iterator[StandIn]:
    with stand_in() as server:
        yield server


def dashboard(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "launch" / "dashboard.py"), *arguments]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment = {**kept, "NETRC": str(folder / "netrc"), "HOME": str(folder), **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def drawn(view: dict[str, Any]) -> dict[str, list[tuple[str, Any, Any]]]:
    """Return kind, x axis and keys of the panels of each section that has arrived."""
    sections = json.loads(view["spec"])["section"]["panelBankConfig"]["sections"]
    return {
        section["name"]: [
            (panel["viewType"], (config := panel["config"]).get("xAxis"), config.get("metrics") or config["mediaKeys"])
            for panel in section["panels"]
        ]
        for section in sections
    }


def test_a_workspace_arrives_and_is_brought_up_to_date(tmp_path: Path, server: StandIn) -> None:
    logged_in = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": server.address}
    made = dashboard(tmp_path, "--job", "fastbert", "--entity", "team", "--project", "students", **logged_in)
    assert made.returncode == 0, made.stderr
    (view,) = server.views.values()
    assert (view["entityName"], view["projectName"], view["displayName"]) == ("team", "students", "fastbert")
    (filtered,) = json.loads(view["spec"])["section"]["runSets"][0]["filters"]["filters"]
    assert (filtered["key"]["name"], filtered["op"], filtered["value"]) == ("tags", "IN", ["fastbert"])
    panels, curve = drawn(view), "Run History Line Plot"
    assert panels["Loss"] == [(curve, "global_step", ["train/loss", "evaluation/loss"])]
    assert (curve, "global_step", ["train/branches", "evaluation/branches"]) in panels["Loss terms"]
    assert (curve, "_timestamp", ["starts"]) in panels["Preemptions"]
    assert ("Bar Chart", None, ["teacher/accuracy", "fastbert/accuracy"]) in panels["Students against teacher"]
    assert ("Media Browser", None, ["evaluation/exit_layers"]) in panels["Early exit"]

    url = made.stdout.split()[0]
    assert url.startswith(f"{server.address}/team/students?nw=")
    changed = dashboard(tmp_path, "--job", "fastbert", "--url", url, "objective.backbone=joint", **logged_in)
    assert changed.returncode == 0, changed.stderr
    (view,) = server.views.values()
    assert view["id"] == "v"
    assert (curve, "global_step", ["train/branch_labels", "evaluation/branch_labels"]) in drawn(view)["Loss terms"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--job", "demo", "--entity", "team"], 2, "error: there is no key for W&B: `wandb login` keeps one, or set"),
        (["--job", "dmo", "--entity", "team"], 2, "unknown job `dmo`; did you mean `demo`?"),
        (["--job", "demo", "--entity", "team", "data.tsk=x"], 2, "did you mean `data.task`?"),
        (["--job", "demo"], 2, "--entity says whose project it is"),
    ],
)
def test_what_is_wrong_is_one_message(tmp_path: Path, arguments: list[str], status: int, said: str) -> None:
    ended = dashboard(tmp_path, *arguments)
    assert ended.returncode == status
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_server_that_refuses_the_key_is_one_message(tmp_path: Path, server: StandIn) -> None:
    server.status = 401
    logged_in = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": server.address}
    ended = dashboard(tmp_path, "--job", "demo", "--entity", "team", **logged_in)
    assert ended.returncode == 1
    assert "error: W&B did not take the dashboard: Failed to verify credentials" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("url", ["nothing", "/team/p?nw=gone"])
def test_an_address_without_a_workspace_is_one_message(tmp_path: Path, server: StandIn, url: str) -> None:
    logged_in = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": server.address}
    address = server.address + url if url.startswith("/") else url
    ended = dashboard(tmp_path, "--job", "demo", "--url", address, **logged_in)
    assert ended.returncode == 2
    assert f"error: --url {address}: no workspace of W&B" in ended.stderr
    assert "Traceback" not in ended.stderr
