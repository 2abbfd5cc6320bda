"""Download models from the Hugging Face hub before a job starts."""

from pathlib import Path

from kd_dist.config.job import Job
from kd_dist.config.sections.base import Section
from kd_dist.config.stage import WIRE
from kd_dist.errors import UserError
from kd_dist.planning.checks import check_job


def with_fetched_models(job: Job) -> Job:
    """Return the job with hub names replaced by folders that they are downloaded to.

    This happens on the machine that starts the job, because compute nodes often have no internet.

    Raises:
        UserError: A name is neither a folder nor on the hub, the hub cannot be reached, or a model cannot be used.
    """

    def local(section: str, key: str, path: str) -> str:
        if path.startswith(WIRE) or Path(path).exists():
            return path
        typed = next((key for key, value in job.given.items() if value == path), f"{section}.{key}")
        return _fetched(path, typed)

    def with_local_models(name: str, section: Section) -> Section:
        return section.with_changed(section.MODELS, lambda key, path: local(name, key, path))

    fetched = job.with_stages(lambda stage: stage.with_sections(with_local_models))
    check_job(fetched)  # only now are the architectures known
    return fetched


def _fetched(name: str, key: str) -> str:
    """Download a model and return its folder; `key` is the setting that names it, for messages."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.txt", "*.safetensors", "*.model", "*.bin"]
    try:
        return snapshot_download(name, allow_patterns=patterns)
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"{key}={name} is not a local folder, and could not be downloaded from the hub ({reason}). Give the path "
            "of a Hugging Face directory, or start this on a machine that can reach the hub"
        ) from error
