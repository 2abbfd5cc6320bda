"""Compare the tensors in a model folder with those that its config.json asks for, without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kd_dist.config.families import FAMILIES
from kd_dist.errors import UserError
from kd_dist.model_files.weight_files import Shapes

ANCHOR = "embeddings.word_embeddings.weight"

# How the names of an encoder's tensors begin inside a larger model of the family.
BASE_PREFIXES = {family: family for family in FAMILIES} | {"xlm-roberta": "roberta"}

LEGACY_NAMES = {".gamma": ".weight", ".beta": ".bias"}  # of a LayerNorm, in weights that came from TensorFlow

BERT_LAYER = {
    "attention.self.query": "DD",
    "attention.self.key": "DD",
    "attention.self.value": "DD",
    "attention.output.dense": "DD",
    "attention.output.LayerNorm": "D",
    "intermediate.dense": "ID",
    "output.dense": "DI",
    "output.LayerNorm": "D",
}
DISTILBERT_LAYER = {
    "attention.q_lin": "DD",
    "attention.k_lin": "DD",
    "attention.v_lin": "DD",
    "attention.out_lin": "DD",
    "sa_layer_norm": "D",
    "ffn.lin1": "ID",
    "ffn.lin2": "DI",
    "output_layer_norm": "D",
}
ALBERT_LAYER = {
    "attention.query": "DD",
    "attention.key": "DD",
    "attention.value": "DD",
    "attention.dense": "DD",
    "attention.LayerNorm": "D",
    "ffn": "ID",
    "ffn_output": "DI",
    "full_layer_layer_norm": "D",
}


@dataclass(frozen=True)
class Fit:
    """How the tensors of a folder fit an encoder. `prefix` stands before the family's own names and is to be taken off;
    `problem` says why they do not fit."""

    prefix: str = ""
    problem: str | None = None


def encoder_shapes(config: Mapping[str, Any]) -> Shapes:
    """Return the shapes of the tensors that an encoder has besides its pooler, by transformers' names.

    Sizes that a config.json leaves out are left open (-1).

    Args:
        config: A config.json of a supported family, with BERT's names of the settings.
    """
    family = config["model_type"]
    sizes = {
        "D": config.get("hidden_size", -1),
        "I": config.get("hidden_dim" if family == "distilbert" else "intermediate_size", -1),
        "V": config.get("vocab_size", -1),
        "P": config.get("max_position_embeddings", -1),
        "T": config.get("type_vocab_size", -1),
    }
    narrow = family in ("albert", "electra")
    sizes["E"] = config.get("embedding_size", -1) if narrow else sizes["D"]
    shapes: Shapes = {}
    for name, dims in _embeddings(family).items():
        shapes[f"embeddings.{name}.weight"] = tuple(sizes[dim] for dim in dims)
    shapes |= _linear("embeddings.LayerNorm", "E", sizes)
    if family == "albert":
        shapes |= _linear("encoder.embedding_hidden_mapping_in", "DE", sizes)
    for place, parts in _layers(config):
        for part, dims in parts.items():
            shapes |= _linear(f"{place}.{part}", dims, sizes)
    return shapes


def _embeddings(family: str) -> dict[str, str]:
    tables = {"word_embeddings": "VE", "position_embeddings": "PE", "token_type_embeddings": "TE"}
    return {name: dims for name, dims in tables.items() if family != "distilbert" or dims != "TE"}


def _layers(config: Mapping[str, Any]) -> list[tuple[str, dict[str, str]]]:
    where, family = FAMILIES[config["model_type"]].layers, config["model_type"]
    if family == "albert":
        groups, inner = config.get("num_hidden_groups", 1), config.get("inner_group_num", 1)
        return [(f"{where}.{g}.albert_layers.{i}", ALBERT_LAYER) for g in range(groups) for i in range(inner)]
    layer = DISTILBERT_LAYER if family == "distilbert" else BERT_LAYER
    return [(f"{where}.{number}", layer) for number in range(config["num_hidden_layers"])]


def _linear(name: str, dims: str, sizes: Mapping[str, int]) -> Shapes:
    shape = tuple(sizes[dim] for dim in dims)
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def fit(found: Shapes, config: Mapping[str, Any], folder: str) -> Fit:
    """Compare the tensors of a folder with those that its config.json asks for.

    A prefix before all of the encoder's names, such as `module.` (torch's DataParallel) or `model.`, is fine.
    """
    if problem := _config_problem(config, folder):
        return Fit(problem=problem)
    tensors = {modern_name(name): shape for name, shape in found.items()}
    wanted = encoder_shapes(config)
    fronts = [name.removesuffix(ANCHOR) for name in tensors if name.endswith(ANCHOR)]
    if not fronts:
        names = ", ".join(list(found)[:3])
        return Fit(problem=f"the weights in {folder} have no {ANCHOR}: {len(found)} tensors of other names ({names})")
    missing = {front: [name for name in wanted if front + name not in tensors] for front in fronts}
    base = BASE_PREFIXES[config["model_type"]] + "."
    front = min(fronts, key=lambda front: (len(missing[front]), front not in ("", base)))
    whole = [front for front in fronts if not missing[front]]
    if len(whole) > 1 and front not in ("", base):
        return Fit(problem=f"the weights in {folder} hold several encoders ({', '.join(whole)}): save one alone")
    problem = (
        _of_another_family(front, tensors, config, folder)
        or _missing_problem(missing[front], len(wanted), folder)
        or _shape_problem({name: tensors[front + name] for name in wanted}, wanted, folder)
    )
    return Fit(front.removesuffix(base) if front.endswith(base) else front, problem)


def _config_problem(config: Mapping[str, Any], folder: str) -> str | None:
    if not isinstance(config.get("num_hidden_layers"), int):
        return f"{folder}/config.json does not give num_hidden_layers, the number of the encoder's layers: add it"
    kind = config.get("position_embedding_type") or "absolute"
    if kind != "absolute":
        return (
            f"{folder}/config.json says position_embedding_type={kind}, which transformers 5 ignores: take a model "
            "with absolute positions"
        )
    return None


def modern_name(name: str) -> str:
    """Return the name that transformers gives a tensor today, of which weights from TensorFlow have an older one."""
    for old, new in LEGACY_NAMES.items():
        if name.endswith(f"LayerNorm{old}"):
            return name.removesuffix(old) + new
    return name


def _missing_problem(missing: list[str], num_wanted: int, folder: str) -> str | None:
    if not missing:
        return None
    return (
        f"the weights in {folder} lack {len(missing)} of the {num_wanted} tensors of the encoder that its config.json "
        f"describes ({', '.join(missing[:3])}); they would stay random: copy the config.json and the "
        "weights of one model"
    )


def _shape_problem(found: Shapes, wanted: Shapes, folder: str) -> str | None:
    wrong = [name for name, shape in wanted.items() if not _same(found[name], shape)]
    if not wrong:
        return None
    shown = ", ".join(f"{name} {list(found[name])}, not {list(wanted[name])}" for name in wrong[:3])
    return (
        f"{len(wrong)} tensors of the weights in {folder} have other shapes than its config.json asks for ({shown}). "
        "Copy the config.json and the weights of one model"
    )


def _same(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(found) == len(wanted) and all(b in (-1, a) for a, b in zip(found, wanted, strict=True))


def _of_another_family(front: str, tensors: Shapes, config: Mapping[str, Any], folder: str) -> str | None:
    """Find BERT's weights below a RoBERTa configuration or the reverse, whose positions are numbered otherwise.

    The number of segments must agree with the name, since an attribute may be called `roberta` and hold a BERT.
    """
    family, last = config["model_type"], front.rstrip(".").split(".")[-1]
    if last not in FAMILIES or FAMILIES[last].offset_positions == FAMILIES[family].offset_positions:
        return None
    has_one_segment = tensors.get(f"{front}embeddings.token_type_embeddings.weight", (0,))[0] == 1
    if has_one_segment == FAMILIES[family].offset_positions:
        return None
    return (
        f"the weights in {folder} are those of a `{last}` model ({front}...), but its config.json says `{family}`, "
        f'which numbers positions otherwise: set "model_type": "{last}" in its config.json'
    )


def require_fit(found: Shapes, config: Mapping[str, Any], folder: str) -> Fit:
    """Return how the tensors fit.

    Raises:
        UserError: They do not.
    """
    result = fit(found, config, folder)
    if result.problem:
        raise UserError(result.problem)
    return result
