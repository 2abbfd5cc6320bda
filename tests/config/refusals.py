"""How a job refuses bad settings."""

from pathlib import Path

import pytest

from kd_dist.errors import UserError
from tests.loading import load_job


def refusal(*overrides: str, job: str = "tinybert_general", overlay: Path | None = None) -> str:
    """Return the message of a job that must refuse these settings, with exit status 2."""
    with pytest.raises(UserError) as caught:
        load_job(job, list(overrides), overlay)
    assert caught.value.exit_status == 2
    return str(caught.value)
