"""How a job refuses bad settings."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kd_dist.config.sections.base import Section
from kd_dist.errors import UserError
from tests.loading import load_job


def refusal(*overrides: str, job: str = "tinybert_general", overlay: Path | None = None) -> str:
    """Return the message of a job that must refuse these settings, with exit status 2."""
    with pytest.raises(UserError) as caught:
        load_job(job, list(overrides), overlay)
    assert caught.value.exit_status == 2
    return str(caught.value)


def assert_one_value_is_refused(section: type[Section], settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        section(**settings)
    assert caught.value.error_count() == 1
