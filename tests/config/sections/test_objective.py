"""Objective sections are discovered, and answer for methods that do not override a question."""

import subprocess
import sys
from functools import partial

import pytest

from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.objectives.soft_labels import SoftLabelsObjective
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.objective import ObjectiveSection, objective_sections
from kd_dist.config.stages import OBJECTIVES


def test_every_file_is_a_method_with_settings_and_an_objective() -> None:
    files = {path.stem for path in (REPOSITORY / "kd_dist" / "config" / "objectives").glob("[!_]*.py")}
    assert {section.model_fields["name"].default for section in objective_sections()} == files == OBJECTIVES
    assert all((REPOSITORY / "kd_dist" / "objectives" / f"{name}.py").exists() for name in files)


@pytest.mark.parametrize("section", objective_sections(), ids=lambda section: section.__name__)
def test_defaults_train_something(section: type[ObjectiveSection]) -> None:
    weights = section().weights()  # type: ignore[call-arg]  # every method has a name of its own
    assert weights
    assert max(weights.values()) > 0


def test_a_method_that_overrides_nothing_has_no_problems() -> None:
    method = ObjectiveSection(name="plain")
    found = [method.problems(None), method.task_problems("regression"), method.training_problems({})]
    assert [*found, method.architecture_problems({}, {})] == [[], [], [], []]
    assert not method.needs_word_starts()
    assert [method.result_name(has_student) for has_student in (True, False)] == ["student", "teacher"]


def test_finding_the_sections_loads_no_torch() -> None:
    code = (
        "import sys; from kd_dist.config.sections.objective import objective_sections; objective_sections();"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.parametrize("section", objective_sections(), ids=lambda section: section.__name__)
def test_the_default_learning_rate_falls_with_the_width_and_is_never_extreme(section: type[ObjectiveSection]) -> None:
    method = section()  # type: ignore[call-arg]
    rates = [method.learning_rate(width, has_student=True, task="single_label") for width in (24, 312, 768, 1024)]
    assert rates == sorted(rates, reverse=True)
    assert all(1e-5 < rate <= 1e-3 for rate in rates)


def test_a_pretrained_encoder_is_tuned_more_gently_than_a_student() -> None:
    rate = partial(FinetuneObjective().learning_rate, 384)
    assert rate(has_student=False, task="single_label") < rate(has_student=True, task="single_label")


@pytest.mark.parametrize("method", [FinetuneObjective(), SoftLabelsObjective()], ids=lambda method: method.name)
@pytest.mark.parametrize("has_student", [False, True])
def test_several_labels_are_learnt_at_twice_the_rate_of_one(method: ObjectiveSection, has_student: bool) -> None:
    one = method.learning_rate(384, has_student, "single_label")
    assert method.learning_rate(384, has_student, "regression") == one
    assert method.learning_rate(384, has_student, "multi_label") == pytest.approx(2 * one)
    assert method.learning_rate(24, has_student, "multi_label") == 1e-3


def test_an_encoder_learns_several_labels_at_the_rate_that_was_measured() -> None:
    assert FinetuneObjective().learning_rate(384, has_student=False, task="multi_label") == 1.6e-4
