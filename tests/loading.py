"""Load a job with overrides, where a test is about the job or its settings alone."""

from pathlib import Path

from kd_dist.config.job import Job
from kd_dist.config.jobs import resolve_job
from kd_dist.config.overrides import join_problems
from kd_dist.errors import UserError


def load_job(name: str, overrides: list[str], overlay: Path | None = None) -> Job:
    """Return the job with the overlay and the overrides applied.

    Raises:
        UserError: All problems in one message.
    """
    job, problems, _ = resolve_job(name, overrides, overlay)
    if problems or job is None:
        raise UserError(join_problems(problems))
    return job
