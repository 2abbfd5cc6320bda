"""Models of the Hugging Face hub become folders before a job starts."""

from pathlib import Path

from kd_dist.config.job import Job
from kd_dist.config.sections.base import Section
from kd_dist.config.stages import WIRE
from kd_dist.errors import UserError
from kd_dist.planning.checks import check_job


def with_fetched_models(job: Job) -> Job:
    """Replace hub names by the folders they were fetched to: compute nodes often have no internet.

    Raises:
        UserError: A name that is neither a folder nor on the hub, no way to the hub, or a model that cannot be used.
    """

    def local(section: str, key: str, path: str) -> str:
        if path.startswith(WIRE) or Path(path).exists():
            return path
        typed = next((key for key, value in job.given.items() if value == path), f"{section}.{key}")
        return _fetched(path, typed)

    def with_local_models(name: str, section: Section) -> Section:
        return section.with_changed(section.MODELS, lambda key, path: local(name, key, path))

    fetched = job.with_stages(lambda stage: stage.with_sections(with_local_models))
    check_job(fetched)  # what was fetched may be no encoder
    return fetched


def _fetched(name: str, key: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.txt", "*.safetensors", "*.model", "*.bin"]
    try:
        return snapshot_download(name, allow_patterns=patterns)
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{key}={name} is no folder here, and could not be fetched from the hub ({reason}). Give the path of a "
            "Hugging Face directory, or run this where the hub can be reached"
        ) from error
