"""Runs on this machine: stages one after another, signals, failures, shards, and what they say when they end."""

import os
import time
from pathlib import Path

import pytest

from kd_dist.config.job import Job
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.resources import ShardResources
from kd_dist.config.stages import SampleTextStage
from kd_dist.errors import RunError
from kd_dist.files import read_json
from kd_dist.runs.claim import claim
from kd_dist.runs.completion import complete, is_complete
from kd_dist.runs.layout import open_run
from launch import local, ranks
from launch.launcher import end_of, launcher_of
from tests.launch.launching import CORPUS, DISTILL, GO_ON, LOCAL, REPORT, fake_code, finish_shard, opened


def test_stages_run_one_after_another(tmp_path: Path, code: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stages = {"texts": SampleTextStage(), "more": SampleTextStage()}
    job = Job(name="texts", description="twice", stages=stages, result="texts")
    run_dir = open_run(job, tmp_path / "runs", "a")
    assert local.run(job, run_dir, LOCAL, code, GO_ON) == 0
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
    job, run_dir = opened(tmp_path, settings, CORPUS)
    code = fake_code(tmp_path, "open(sys.argv[1] + '/ran', 'w').write(__file__)")
    assert local.run(job, run_dir, LOCAL, code, GO_ON) == 0
    assert (run_dir / CORPUS / "ran").read_text(encoding="utf-8") == str(code / "launch" / "task.py")


def test_packages_that_the_user_adds_stay_behind_the_snapshot(
    tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "of_the_site.py").write_text("name = 'added'", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    job, run_dir = opened(tmp_path, settings, CORPUS)
    code = fake_code(
        tmp_path,
        "import of_the_site\n"
        "open(sys.argv[1] + '/ran', 'w').write(' '.join([of_the_site.name, *os.environ['PYTHONPATH'].split(':')]))",
    )
    assert local.run(job, run_dir, LOCAL, code, GO_ON) == 0
    assert (run_dir / CORPUS / "ran").read_text(encoding="utf-8").split() == ["added", str(code), f"{tmp_path}/site"]


def test_ranks_get_torchs_variables(tmp_path: Path, settings: list[str]) -> None:
    job, run_dir = opened(tmp_path, settings, DISTILL, "resources.gpus_per_node=2")
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "A"]
    code = fake_code(tmp_path, f"open(sys.argv[1] + '/' + rank, 'w').write(' '.join(os.environ[n] for n in {names}))")
    assert local.run(job, run_dir, LOCAL.model_copy(update={"environment": {"A": "b"}}), code, GO_ON) == 0
    assert (run_dir / DISTILL / "0").read_text(encoding="utf-8") == "0 0 2 2 127.0.0.1 b"
    assert (run_dir / DISTILL / "1").read_text(encoding="utf-8") == "1 1 2 2 127.0.0.1 b"


def test_ranks_hold_the_lock_of_the_run(tmp_path: Path, settings: list[str]) -> None:
    job, run_dir = opened(tmp_path, settings, DISTILL)
    claim(run_dir)
    code = fake_code(
        tmp_path,
        "held = [os.path.realpath('/proc/self/fd/' + number) for number in os.listdir('/proc/self/fd')]\n"
        "open(sys.argv[1] + '/held', 'w').write(' '.join(held))",
    )
    assert local.run(job, run_dir, LOCAL, code, GO_ON) == 0
    assert str(run_dir / "launch.lock") in (run_dir / DISTILL / "held").read_text(encoding="utf-8").split()


def test_corpus_that_is_gone_when_the_stage_starts_is_one_message(
    tmp_path: Path, settings: list[str], corpus: Path, code: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job, run_dir = opened(tmp_path, settings, CORPUS)
    corpus.unlink()
    assert local.run(job, run_dir, LOCAL, code, GO_ON) == 1  # work had begun
    said = capfd.readouterr().err
    assert said.count("error: ") == 1
    assert "Traceback" not in said
    assert f"stage {CORPUS} failed" in said
    assert f"this command goes on from there:\n  {GO_ON}\n" in said
    assert not is_complete(run_dir / CORPUS)


def test_later_stages_do_not_start_after_a_failed_one(
    tmp_path: Path, settings: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    job, run_dir = opened(tmp_path, settings, CORPUS)
    (run_dir / DISTILL / "COMPLETE").unlink()
    assert local.run(job, run_dir, LOCAL, fake_code(tmp_path, "sys.exit(3)"), GO_ON) == 3
    assert f"{DISTILL}: started" not in capfd.readouterr().out


def test_failing_rank_ends_the_others_and_gives_its_status(
    tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "SECONDS_TO_FOLLOW", 0.2)
    job, run_dir = opened(tmp_path, settings, DISTILL, "resources.gpus_per_node=2")
    code = fake_code(tmp_path, "sys.exit(3) if rank == '1' else time.sleep(30)")
    began = time.monotonic()
    assert local.run(job, run_dir, LOCAL, code, GO_ON) == 3
    assert time.monotonic() - began < 20


CRASH = (
    "folder = sys.argv[1] + '/checkpoints/step_'\n"
    "tries = len(os.listdir(os.path.dirname(folder))) if os.path.exists(os.path.dirname(folder)) else 0\n"
    "os.makedirs(folder + str(tries + 1)) if tries < {saves} else sys.exit({status})\n"
    "os.kill(os.getpid(), signal.SIGKILL)"
)


def test_a_crash_after_a_checkpoint_is_started_again(
    tmp_path: Path, settings: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    job, run_dir = opened(tmp_path, settings, DISTILL)
    assert local.run(job, run_dir, LOCAL, fake_code(tmp_path, CRASH.format(saves=2, status=0)), GO_ON) == 0
    said = capfd.readouterr()
    assert said.out.count(f"{DISTILL}: started on 1 rank\n") == 3
    assert said.err.splitlines() == [
        f"stage {DISTILL} crashed: it is started again, {number} of at most 3 times" for number in (1, 2)
    ]


@pytest.mark.parametrize(
    ("saves", "max_restarts", "starts", "said"),
    [(0, 3, 1, "has kept nothing since it was started: it is not started again"), (9, 1, 2, "the last of 1 restarts")],
)
def test_a_crash_without_progress_or_too_many_end_the_run(
    tmp_path: Path, settings: list[str], capfd: pytest.CaptureFixture[str],
    saves: int, max_restarts: int, starts: int, said: str,
) -> None:  # fmt: skip
    job, run_dir = opened(tmp_path, settings, DISTILL)
    code = fake_code(tmp_path, CRASH.format(saves=saves, status=3))
    cluster = LOCAL.model_copy(update={"max_restarts": max_restarts})
    if saves:
        with pytest.raises(RunError, match="a rank was ended by SIGKILL"):
            local.run(job, run_dir, cluster, code, GO_ON)
    else:
        assert local.run(job, run_dir, cluster, code, GO_ON) == 3
    shown = capfd.readouterr()
    assert (shown.out.count(f"{DISTILL}: started on"), said in shown.err) == (starts, True)


def test_rank_that_is_killed_is_reported_by_its_signal(tmp_path: Path, settings: list[str]) -> None:
    job, run_dir = opened(tmp_path, settings, CORPUS)
    with pytest.raises(RunError, match=f"stage {CORPUS}: a rank was ended by SIGKILL; look into") as caught:
        local.run(job, run_dir, LOCAL, fake_code(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)"), GO_ON)
    assert caught.value.exit_status == 1


def test_signal_is_handed_to_the_ranks_and_ends_the_run(
    tmp_path: Path, settings: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    job, run_dir = opened(tmp_path, settings, CORPUS)
    text = (
        "signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1] + '/saved', 'w'), os._exit(143)))\n"
        "time.sleep(0.3); os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
    )
    assert local.run(job, run_dir, LOCAL, fake_code(tmp_path, text), GO_ON) == 143
    assert (run_dir / CORPUS / "saved").exists()
    said = capfd.readouterr().err
    assert said == (
        f"stopped by SIGTERM: stage {CORPUS} has saved nothing yet; complete before it: {DISTILL}, {REPORT}; "
        f"this command goes on from there:\n  {GO_ON}\n"
    )


def test_ctrl_c_says_which_step_is_saved(
    tmp_path: Path, settings: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    job, run_dir = opened(tmp_path, settings, DISTILL)
    (run_dir / REPORT / "COMPLETE").unlink()
    text = (
        "checkpoints = sys.argv[1] + '/checkpoints/step_'\n"
        "for step in ('00001000', '00000500', '00001500'): os.makedirs(checkpoints + step)\n"
        "for step in ('00001000', '00000500'): open(checkpoints + step + '/COMPLETE', 'w').close()\n"
        "os.kill(os.getppid(), signal.SIGINT); time.sleep(60)"
    )
    assert local.run(job, run_dir, LOCAL, fake_code(tmp_path, text), GO_ON) == 130
    said = capfd.readouterr().err
    assert f"stopped by SIGINT: stage {DISTILL} is saved at step 1,000; complete before it: {CORPUS}; this" in said
    assert end_of(run_dir / DISTILL) == {"status": 130, "signal": "SIGINT"}


def test_the_launcher_is_noted_while_it_runs(tmp_path: Path, settings: list[str]) -> None:
    job, run_dir = opened(tmp_path, settings, DISTILL)
    code = fake_code(tmp_path, "import shutil; shutil.copy(sys.argv[1] + '/../launcher.json', sys.argv[1] + '/noted')")
    assert local.run(job, run_dir, LOCAL, code, GO_ON) == 0
    noted = read_json(run_dir / DISTILL / "noted")
    assert (noted["pid"], noted["stage"]) == (os.getpid(), DISTILL)
    assert launcher_of(run_dir) is None


def test_a_failure_is_noted_until_the_stage_starts_again(tmp_path: Path, settings: list[str]) -> None:
    job, run_dir = opened(tmp_path, settings, DISTILL)
    code = fake_code(tmp_path, "sys.exit(0 if os.path.exists(sys.argv[1] + '/mended') else 3)")
    assert local.run(job, run_dir, LOCAL, code, GO_ON) == 3
    assert end_of(run_dir / DISTILL) == {"status": 3, "signal": ""}
    assert launcher_of(run_dir) is None
    (run_dir / DISTILL / "mended").touch()
    assert local.run(job, run_dir, LOCAL, code, GO_ON) == 0
    assert end_of(run_dir / DISTILL) is None


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
    assert local.run(sharded, run_dir, LOCAL, code, GO_ON) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[:3] == ["augment: started on 2 shards, 1 at a time", "shard 0", "shard 2"]
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
    assert local.run(job, run_dir, LOCAL, fake_code(tmp_path, f"{NOTE}\n{wait}\nprint('shard', shard)"), GO_ON) == 0
    places = [(run_dir / "augment" / shard).read_text(encoding="utf-8") for shard in "012"]
    assert places[:2] == ["0 1 0 2", "0 1 1 2"]
    assert places[2] in places[:2]
    assert (run_dir / "augment" / "log" / "shard_00001.txt").read_text(encoding="utf-8").startswith("shard 1")


def test_no_shard_starts_after_a_failed_one(tmp_path: Path, sharded: Job) -> None:
    run_dir = in_shards(tmp_path, sharded)
    assert local.run(sharded, run_dir, LOCAL, fake_code(tmp_path, f"{NOTE}\nsys.exit(3 * shard)"), GO_ON) == 3
    assert [(run_dir / "augment" / shard).exists() for shard in "012"] == [True, True, False]


def test_no_shard_starts_after_a_signal(tmp_path: Path, sharded: Job, capfd: pytest.CaptureFixture[str]) -> None:
    run_dir = in_shards(tmp_path, sharded)
    code = fake_code(tmp_path, f"{NOTE}\nos.kill(os.getppid(), signal.SIGTERM); time.sleep(60)")
    assert local.run(sharded, run_dir, LOCAL, code, GO_ON) == 143
    assert [(run_dir / "augment" / shard).exists() for shard in "012"] == [True, False, False]
    assert "stage augment has saved 0 of 3 shards" in capfd.readouterr().err


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
