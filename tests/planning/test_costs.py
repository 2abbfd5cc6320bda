"""What stages cost: time by steps and ranks, memory that fits or not, and disk."""

from pathlib import Path

import pytest

from kd_dist.config.jobs import find_job
from kd_dist.config.sections.training import Train
from kd_dist.planning.checks import load_checked_job
from kd_dist.planning.costs import Costs, divided, padded
from kd_dist.planning.places import Site
from kd_dist.planning.rows import RowCounts
from kd_dist.planning.step_times import StepTimes
from kd_dist.planning.works import Works
from tests.conftest import LabelledWorld, TinyWorld
from tests.planning.test_rows import task_job

TIMES = {"gpu": StepTimes("gpu"), "cpu": StepTimes("cpu")}


def costs(labelled: LabelledWorld, *settings: str, has_gpus: bool = True, cores: int | None = None) -> Costs:
    job = task_job(labelled, "layers.train.epochs=4", *settings)
    return Costs(job, RowCounts(job, {}), Site(has_gpus, cores, 4, 100.0, 80.0, TIMES))


def test_steps_and_rows_are_those_of_training(labelled: LabelledWorld) -> None:
    found = costs(labelled)
    assert (found.of("distill").rows, found.of("distill").steps) == (540, 1200)  # train.min_steps
    assert (found.of("labelled").rows, found.of("labelled").steps) == (104, None)
    assert found.of("outputs").rows == 564
    assert found.not_estimated() == ["serving", "report"]
    assert found.of("serving").hours is None


def test_twice_the_steps_take_twice_the_time_beyond_what_is_done_once(labelled: LabelledWorld) -> None:
    hours = [costs(labelled, f"train.steps={steps}").of("distill").hours for steps in (1000, 2000, 3000)]
    assert hours[2] - hours[1] == pytest.approx(hours[1] - hours[0], rel=0.02)


def test_ranks_share_the_micro_batches_of_a_step(labelled: LabelledWorld) -> None:
    large = ["train.global_batch_size=256", "train.micro_batch_size=32", "train.steps=10000000", "engine.zero_stage=1"]
    found = costs(labelled, *large)
    one, eight = found.of("distill", 1), found.of("distill", 8)
    assert one.hours / eight.hours == pytest.approx(8, rel=0.1)
    assert eight.gpu_hours() == pytest.approx(8 * eight.hours)
    assert found.of("distill", 512) is None
    alike = costs(labelled, *large, has_gpus=False, cores=8)
    assert alike.of("distill", 8).hours == pytest.approx(alike.of("distill", 1).hours, rel=0.1)  # the same cores
    assert alike.of("distill", 8).gpu_hours() == 0


def test_a_micro_batch_becomes_smaller_where_a_step_could_not_be_divided() -> None:
    train = Train(global_batch_size=32, micro_batch_size=8)
    assert divided(train, 4) == train
    assert divided(train, 8).micro_batch_size == 4
    assert divided(train, 32).micro_batch_size == 1
    assert divided(train, 64) is divided(train, 3) is None


def test_batches_are_padded_to_the_longest_of_similar_rows() -> None:
    lengths = list(range(1, 101))
    assert padded(lengths, window=40, batch=10) == [25, 50, 75, 100]
    assert padded(lengths, window=10, batch=10) == [100]
    assert padded([7], window=10_000, batch=10) == [7] * 64
    assert padded(lengths, window=0, batch=64) == [100]


def test_memory_grows_with_the_micro_batch_and_a_smaller_one_is_found(labelled: LabelledWorld) -> None:
    found = costs(labelled, "train.global_batch_size=4096", "train.micro_batch_size=1024")
    few = costs(labelled, "train.global_batch_size=4096", "train.micro_batch_size=64")
    limit = few.of("layers").memory_gb
    assert found.of("layers").memory_gb > limit
    assert found.fitting("layers", limit).micro_batch_size == 64
    assert found.fitting("layers", 0.001) is None
    less = costs(
        labelled, "train.global_batch_size=4096", "train.micro_batch_size=1024", "engine.activation_checkpointing=true"
    )
    assert less.of("layers").memory_gb < found.of("layers").memory_gb


def test_stages_wait_for_one_another_on_a_cluster_and_for_all_on_one_machine(labelled: LabelledWorld) -> None:
    for cores in (None, 2):
        found = costs(labelled, cores=cores)
        every = {name: found.of(name) for name in found.job.stages}
        of_all = sum(cost.hours or 0 for cost in every.values())
        beside = every["alone"].hours
        assert found.hours(every) == pytest.approx(of_all if cores else of_all - beside, rel=0.3)
        assert (found.hours(every) == pytest.approx(of_all)) is bool(cores)


def test_the_pass_of_a_teacher_that_serves_several_students_is_paid_once(tiny: TinyWorld) -> None:
    def costs_of(students: str) -> Costs:
        given = [
            f"data.corpus={tiny.corpus}",
            f"teacher.path={tiny.teacher}",
            "train.steps=1000000",
            "data.max_length=48",
            students,
        ]
        job = load_checked_job("tinybert_general", given)
        return Costs(job, RowCounts(job, {}), Site(True, None, 4, 100.0, 80.0, TIMES))

    alone = costs_of(f"student.config={tiny.student}").of("distill")
    found = costs_of(f"students={tiny.student}@1,{tiny.student}@2")
    names = found.job.together["distill"]
    first, second = (found.of(name) for name in names)
    assert first.hours == alone.hours
    assert second.hours == pytest.approx(alone.hours * 6 / 9, rel=0.01)  # no layers of a teacher
    assert first.memory_gb == second.memory_gb > alone.memory_gb  # both are in it
    every = {name: found.of(name) for name in found.job.stages}
    assert found.hours(every) == pytest.approx(every["corpus"].hours + first.hours + second.hours)


def test_shards_share_the_rows_of_the_teachers_outputs(labelled: LabelledWorld) -> None:
    found = costs(labelled)
    start = TIMES["gpu"].start_seconds / 3600
    assert found.of("outputs", 4).hours - start == pytest.approx((found.of("outputs", 1).hours - start) / 4)


def test_models_on_the_hub_are_taken_for_a_usual_one(labelled: LabelledWorld, tmp_path: Path) -> None:
    found = costs(labelled)
    found.of("distill")
    assert found.works.stood_in == set()
    assert found.works.shape("hfl/on-the-hub").width == 768
    assert found.works.stood_in == {"hfl/on-the-hub"}


def test_models_that_stages_make_of_others_have_their_sizes(labelled: LabelledWorld) -> None:
    teacher = costs(labelled).works.shape(str(labelled.teacher))
    files = [f"data.{split}={labelled.files / split}.tsv" for split in ("train", "validation", "test")]
    job = load_checked_job("ensemble", [*files, f"teachers.paths={labelled.teacher},{labelled.other_teacher}"])
    both = Works(job, RowCounts(job, {})).shape("@ensemble/export")
    assert (both.layers, both.width, both.vocabulary) == (6, teacher.width, 2 * teacher.vocabulary)
    demo = find_job("demo")
    works = Works(demo, RowCounts(demo, {}))
    assert works.shape("@calibration/export").width == works.shape("@finetune/export").width == 768
    assert works.stood_in == {"@multilingual/encoder"}  # which nobody has read yet
