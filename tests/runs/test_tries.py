"""Whether another try of a stage is worth its while, by what the last one left behind."""

from pathlib import Path

import pyarrow as pa
import pytest

from kd_dist.config.job import Job
from kd_dist.config.sections.data import CorpusData, LabelledData, PlainTokenData
from kd_dist.config.sections.models import Encoder, TokenizerSource
from kd_dist.config.sections.resources import ShardResources
from kd_dist.config.stage import Stage
from kd_dist.config.stages import AugmentStage, CorpusStage, LabelledStage
from kd_dist.data.kept_blocks import FOLDER, KeptBlocks, kept_until_done
from kd_dist.errors import RunError
from kd_dist.runs.layout import open_run
from kd_dist.runs.tries import Tries
from tests.runs.runs import job


@pytest.fixture
def distill(tmp_path: Path, settings: list[str]) -> Path:
    """A training stage of a run."""
    return open_run(job([*settings, "teacher.path=x"]), tmp_path / "runs", "a") / "distill"


@pytest.fixture
def augment(tmp_path: Path) -> Path:
    """A stage in two shards."""
    encoder, data = Encoder(path="none/such"), PlainTokenData(tokens=str(tmp_path))
    stages = {"augment": AugmentStage(encoder=encoder, data=data, resources=ShardResources(shards=2))}
    return open_run(Job(name="x", description="", stages=stages, result="augment"), tmp_path / "runs", "a") / "augment"


def begun(stage_dir: Path) -> Tries:
    tries = Tries(stage_dir)
    tries.begin()
    return tries


def save(stage_dir: Path, step: int) -> None:
    (stage_dir / "checkpoints" / f"step_{step:08d}").mkdir(parents=True)


def reach(stage_dir: Path, step: int) -> None:
    """Be at a step, as rank 0 notes it."""
    with Tries(stage_dir).open_step_file() as file:
        file.write(b"%d" % step)


def test_a_crash_after_a_checkpoint_is_retried_and_counted(distill: Path) -> None:
    save(distill, 100)  # by an earlier submission
    tries = begun(distill)
    save(distill, 200)
    reach(distill, 217)
    assert tries.verdict(3) == (True, "stage distill crashed at step 217: it is started again, 1 of at most 3 times")
    assert tries.crashed_step() == 217
    save(distill, 300)
    reach(distill, 1_301)
    again, text = tries.verdict(3)
    assert (again, text) == (True, "stage distill crashed at step 1,301: it is started again, 2 of at most 3 times")


def test_a_crash_before_a_new_checkpoint_is_not_retried(distill: Path) -> None:
    save(distill, 100)
    tries = begun(distill)
    reach(distill, 117)
    said = "stage distill crashed at step 117 and has kept nothing since it was started: it is not started again"
    assert tries.verdict(3) == (False, said)


def test_a_second_crash_at_the_same_step_is_not_retried_and_named(distill: Path) -> None:
    tries = begun(distill)
    save(distill, 100)
    reach(distill, 117)
    assert tries.verdict(3).again
    save(distill, 110)  # it did save, but 117 is what it dies of
    reach(distill, 117)
    again, text = tries.verdict(3)
    assert (again, text.startswith("stage distill crashed at step 117 for the second time: ")) == (False, True)


def test_restarts_are_bounded(distill: Path) -> None:
    tries = begun(distill)
    for step in (100, 200):
        save(distill, step)
        reach(distill, step + 10)
        assert tries.verdict(2).again
    save(distill, 300)
    reach(distill, 310)
    said = "stage distill crashed at step 310: that was the last of 2 restarts (`max_restarts` of --cluster)"
    assert tries.verdict(2) == (False, said)
    tries.begin()  # another submission counts anew
    assert tries.verdict(2).again


def test_set_up_may_fail_once_where_the_stage_has_been_beyond_it(distill: Path) -> None:
    tries = begun(distill)
    assert not tries.verdict(3).again  # as by a bug, from the first try on
    save(distill, 100)
    assert tries.has_progressed()  # it met its time limit
    assert tries.verdict(3) == (True, "stage distill crashed: it is started again, 1 of at most 3 times")
    assert not tries.verdict(3).again


def test_a_hang_is_retried_whatever_was_kept_but_not_twice_at_a_step(distill: Path) -> None:
    tries = begun(distill)
    for at, again in ((1, True), (2, True), (2, False)):
        reach(distill, at)
        tries.note("hang")
        assert tries.verdict(3).again is again


def test_a_mistake_of_the_user_is_never_retried(distill: Path) -> None:
    tries = begun(distill)
    save(distill, 100)
    with pytest.raises(RunError), tries.noting_mistakes():
        raise RunError("the labels differ")
    assert tries.verdict(3) == (False, "")
    tries = begun(distill)
    with pytest.raises(KeyError), tries.noting_mistakes():
        raise KeyError("a bug")
    save(distill, 200)
    assert tries.verdict(3).again


def test_progress_is_what_is_new_since_the_last_question(distill: Path) -> None:
    tries = begun(distill)
    assert not tries.has_progressed()
    save(distill, 100)
    assert [tries.has_progressed() for _ in range(2)] == [True, False]
    (distill / "checkpoints" / "step_00000100").rename(distill / "checkpoints" / "step_00000200")  # only one is kept
    assert tries.has_progressed()


@pytest.mark.parametrize("name", ["corpus", "labelled"])
def test_blocks_of_rows_are_progress(name: str, tmp_path: Path) -> None:
    corpus = CorpusStage(data=CorpusData(corpus=["a.txt"]))
    labelled = LabelledStage(data=LabelledData(train=["a.tsv"]), tokenizer=TokenizerSource(path="none/such"))
    stage_dir = tmp_path / name
    stage_dir.mkdir()
    stage: Stage = {"corpus": corpus, "labelled": labelled}[name]
    (stage_dir / "config.json").write_text(stage.model_dump_json(), encoding="utf-8")
    tries = begun(stage_dir)
    assert not tries.has_progressed()
    with kept_until_done(stage_dir / FOLDER) as folder:
        KeptBlocks(folder, "rows").write(0, pa.table({"text": ["x"]}), "identity")
        assert [tries.has_progressed() for _ in range(2)] == [True, False]


def test_a_stage_that_keeps_nothing_makes_no_progress(texts: Path) -> None:
    tries = begun(texts)
    (texts / "unlabelled.txt").touch()
    assert not tries.has_progressed()
    assert not tries.verdict(3).again


def test_shards_that_are_jobs_of_their_own_are_tried_on_their_own(augment: Path) -> None:
    begun(augment)
    shards = [Tries(augment, shard) for shard in range(2)]
    shards[1].note("final")
    (augment / "shards").mkdir()
    (augment / "shards" / "block_00000000.parquet").touch()
    assert [tries.verdict(3).again for tries in shards] == [True, False]


def test_a_launcher_of_all_shards_hears_what_each_notes(augment: Path) -> None:
    tries = begun(augment)
    Tries(augment, 1).note("final")
    (augment / "shards").mkdir()
    (augment / "shards" / "block_00000000.parquet").touch()
    assert tries.verdict(3) == (False, "")
    tries.begin()
    (augment / "shards" / "block_00000001.parquet").touch()
    assert tries.verdict(3).again
