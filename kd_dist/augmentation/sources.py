"""Choose where candidates come from."""

from pathlib import Path
from typing import NamedTuple

from kd_dist.config.stages import AugmentStage
from kd_dist.data.word_vector_files import check_word_vectors
from kd_dist.errors import RunError
from kd_dist.model_files.model_folders import has_classifier_head, has_language_model_head

WORD_VECTORS = "augment.word_vectors"
"""The setting that names a file of word vectors."""


class Sources(NamedTuple):
    """The sources of candidates: at least one of a masked language model and a file of word vectors."""

    masked_language_model: str | None
    word_vectors: str | None


def sources_of(stage: AugmentStage) -> Sources:
    """Return the sources that the settings name.

    Raises:
        RunError: there is none, or a file or model is not what its option says.
    """
    settings, encoder, teacher = stage.augment, stage.encoder.path, stage.teacher.path
    if settings.mlm_path is not None and not has_language_model_head(settings.mlm_path):
        raise RunError(
            f"augment.mlm_path={settings.mlm_path} has no masked-language-model head, only an encoder: give a model "
            "saved with one (BertForMaskedLM and the like)"
        )
    if settings.word_vectors is not None:
        check_word_vectors(Path(settings.word_vectors), WORD_VECTORS)
    if settings.keep_confidence is not None and (teacher is None or not has_classifier_head(teacher)):
        raise RunError(f"augment.keep_confidence needs a classifier, and teacher.path={teacher or 'none'} is none")
    model = settings.mlm_path or (encoder if has_language_model_head(encoder) else None)
    if model is None and settings.word_vectors is None:
        raise RunError(
            f"nothing proposes words: encoder.path={encoder} has no masked-language-model head. Set augment.mlm_path "
            "to a model that has one, or augment.word_vectors to a word2vec file"
        )
    if model is None and settings.multi_piece == "mask":
        raise RunError("augment.multi_piece=mask needs a masked language model: set augment.mlm_path")
    return Sources(model, settings.word_vectors)
