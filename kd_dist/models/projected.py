"""Start a narrow student's embeddings from a wide donor's, projected onto the principal directions of its words.

The directions P are the eigenvectors of the covariance of the donor's word embeddings, as many as the student is wide.
Word, position and token-type embeddings are multiplied by P; a student's state then stands for `state P'` of the donor,
which is where projections to the donor's width start as well.

Shapes: V vocabulary, D donor's width, E student's width.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from kd_dist.config.families import FAMILIES
from kd_dist.config.recurrent import RECURRENT


def obstacle(donor: PretrainedConfig, student: PretrainedConfig) -> str | None:
    """Return why a student of this architecture cannot start from this donor's embeddings; None where it can."""
    for name, config in (("donor", donor), ("student", student)):
        if config.model_type != RECURRENT and embedding_width(config) != config.hidden_size:
            return f"the {name}'s embeddings are narrower than its layers"
    if embedding_width(student) > donor.hidden_size:
        return f"it is wider ({embedding_width(student)}) than the donor ({donor.hidden_size})"
    if student.vocab_size > donor.vocab_size:
        return f"it has more tokens ({student.vocab_size:,}) than the donor ({donor.vocab_size:,})"
    return None


def embedding_width(config: PretrainedConfig) -> int:
    """Return the width of the word embeddings, which some families have apart from that of their layers."""
    return getattr(config, "embedding_size", config.hidden_size)


def principal_directions(words_VD: Tensor, width: int) -> Tensor:
    """Return the first principal directions (D, E) of word embeddings.

    The largest component of each direction is positive, so that all machines agree on the sign. Where all directions
    are wanted they are the axes themselves.
    """
    if width == words_VD.shape[1]:
        return torch.eye(width)
    _, directions_DD = torch.linalg.eigh(torch.cov(words_VD.detach().double().T))
    directions_DE = directions_DD[:, -width:].flip(1)
    largest_1E = directions_DE.abs().argmax(dim=0, keepdim=True)
    return (directions_DE * directions_DE.gather(0, largest_1E).sign()).float()


@torch.no_grad()
def project(donor: PreTrainedModel, student: PreTrainedModel, directions_DE: Tensor | None = None) -> Tensor:
    """Start a student's embeddings from a donor's, and return the directions (D, E).

    Args:
        donor: The encoder, or a model that has one.
        student: Likewise, of an architecture without an `obstacle`, or recurrent; it is changed in place.
        directions_DE: None: the principal directions of the donor's words.
    """
    source, target = _tables(donor.base_model), _tables(student.base_model)
    if directions_DE is None:
        directions_DE = principal_directions(source["words"], embedding_width(student.config))
    for name in source.keys() & target.keys():
        common = min(len(source[name]), len(target[name]))
        target[name][:common] = source[name][:common] @ directions_DE
    return directions_DE


def _tables(encoder: Any) -> dict[str, Tensor]:
    """Return the embeddings by name; positions from the first that a text has, types where the family has them.

    Outside the families that are built like BERT only words mean the same in donor and student.
    """
    family, tables = encoder.config.model_type, {"words": encoder.get_input_embeddings().weight}
    if family not in FAMILIES:
        return tables
    first = encoder.config.pad_token_id + 1 if FAMILIES[family].offset_positions else 0
    tables["positions"] = encoder.embeddings.position_embeddings.weight[first:]
    if hasattr(encoder.embeddings, "token_type_embeddings"):
        tables["types"] = encoder.embeddings.token_type_embeddings.weight
    return tables
