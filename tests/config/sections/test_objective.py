"""Objective sections are discovered, and answer for methods that do not override a question."""

import subprocess
import sys

import pytest

from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.objective import ObjectiveSection, objective_sections
from kd_dist.config.stages import OBJECTIVES


def test_every_file_is_a_method_with_settings_and_an_objective() -> None:
    files = {path.stem for path in (REPOSITORY / "kd_dist" / "config" / "objectives").glob("[!_]*.py")}
    assert {section.model_fields["name"].default for section in objective_sections()} == files == OBJECTIVES
    assert all((REPOSITORY / "kd_dist" / "objectives" / f"{name}.py").exists() for name in files)


@pytest.mark.parametrize("section", objective_sections(), ids=lambda section: section.__name__)
def test_defaults_train_something(section: type[ObjectiveSection]) -> None:
    weights = section().weights()
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
