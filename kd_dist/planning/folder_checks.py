"""Find model folders that would not load as they are meant, or only in part, before anything queues."""

from pathlib import Path

from kd_dist.config.families import unsupported
from kd_dist.config.job import Job
from kd_dist.config.sections.augmentation import Augment
from kd_dist.config.sections.base import Section
from kd_dist.config.sections.evaluation import Evaluate
from kd_dist.config.sections.models import FilterTeacher, Model, Tokenizer, TokenizerSource
from kd_dist.errors import UserError
from kd_dist.model_files.encoder_weights import fit
from kd_dist.model_files.model_configs import config_file, model_notes, read_model_config
from kd_dist.model_files.model_folders import NUMBERS
from kd_dist.model_files.vocabularies import require_tokenizer, tokenizer_notes
from kd_dist.model_files.weight_files import pointer_problem, tensor_shapes

ONLY_TOKENIZERS = (Tokenizer, TokenizerSource)
WITH_TOKENIZERS = (*ONLY_TOKENIZERS, Augment, Evaluate, FilterTeacher, Model)


def folder_problems(section: Section, path: str) -> list[str]:
    """Find what a local folder lacks that this section needs: a tokenizer, weights, every tensor of the encoder.

    Args:
        section: What the folder is used for.
        path: The folder; a hub name has no problems yet.

    Returns:
        Messages that begin with the folder.
    """
    folder = Path(path)
    if not folder.is_dir():
        return []
    try:
        if problem := pointer_problem(folder, weights=not isinstance(section, ONLY_TOKENIZERS)):
            return [f"{path}/{problem}"]
        if isinstance(section, WITH_TOKENIZERS):
            require_tokenizer(folder)
        problem = None if isinstance(section, ONLY_TOKENIZERS) else _weight_problem(folder)
    except UserError as error:
        problem = str(error)
    return [problem if problem.startswith(path) else f"{path}: {problem}"] if problem else []


def _weight_problem(folder: Path) -> str | None:
    """Return why a model's weights do not fit its configuration, if its family is known here."""
    if config_file(folder) is None:
        return None
    shapes, config = tensor_shapes(folder), read_model_config(folder)
    if unsupported(config) or any(not isinstance(config.get(key), int) for key in NUMBERS):
        return None
    return fit(shapes, config, str(folder)).problem


def with_folder_notes(job: Job) -> Job:
    """Add to a job's notes what is made of its model folders that are not as transformers writes them."""
    notes = [
        note
        for stage in job.stages.values()
        for _, section in stage.sections()
        for _, path in section.named(section.MODELS)
        if Path(path).is_dir()
        for note in _notes(section, Path(path))
    ]
    return job.model_copy(update={"notes": list(dict.fromkeys([*job.notes, *notes]))})


def _notes(section: Section, folder: Path) -> list[str]:
    if isinstance(section, ONLY_TOKENIZERS):
        return tokenizer_notes(folder)
    return model_notes(folder) + (tokenizer_notes(folder) if isinstance(section, WITH_TOKENIZERS) else [])
