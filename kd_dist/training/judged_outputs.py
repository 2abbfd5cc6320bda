"""The soft labels stage: judgements of texts in files become the outputs of a teacher.

    outputs/   as `teacher_outputs` writes it, for labelled rows and for tokens/
    tokens/    the judged texts that are neither training nor validation nor test rows, without labels

A training row that nobody judged learns from its label alone: its output is that label. So does a validation row, whose
output only measures the loss.

Shapes: N rows, C classes.
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kd_dist.config.stages import SoftLabelsStage
from kd_dist.config.tasks import Task, main_metric
from kd_dist.data.arrow_rows import quiet, write_units
from kd_dist.data.examples import Examples, read_split
from kd_dist.data.judgement_files import find_id_texts
from kd_dist.data.judgements import Judgements, in_words, read_judgements
from kd_dist.data.labels import Labels
from kd_dist.data.prepared_rows import PreparedRows, write_statistics
from kd_dist.data.readers import Texts
from kd_dist.data.token_rows import TokenRows, row_keys
from kd_dist.data.tokenizers import load_fast_tokenizer
from kd_dist.data.unlabelled import Recipe, write_texts
from kd_dist.errors import RunError, excerpt
from kd_dist.evaluation.guard import enforce, judge_value
from kd_dist.evaluation.scores import predictions, scores_of
from kd_dist.files import replaced_folder
from kd_dist.training.teacher_blocks import SPLITS
from kd_dist.training.teacher_outputs import identify, write_part

BATCH_ROWS = 4_096

SMOOTHING = 1e-4
"""The share of each judgement that goes to all classes alike, so that the logit of an impossible one is finite."""

BETTER_JUDGEMENTS = "Look at a few of them, and whether each class is in the column of its name"


@dataclass(frozen=True)
class LabelledSplit:
    """A split of labelled rows, and which of them were judged.

    Attributes:
        examples: its texts and labels.
        texts: the text of each row, or both of a pair.
        judged_N: which rows were judged.
        probabilities_NC: their judgement, or of other rows the label.
    """

    examples: Examples
    texts: list[Texts]
    judged_N: np.ndarray
    probabilities_NC: np.ndarray

    @classmethod
    def of(cls, tokens: Path, split: str, labels: Labels, judgements: Judgements) -> "LabelledSplit":
        """Read a split and look its texts up."""
        examples = read_split(tokens, split)
        columns = [examples.texts, *([] if examples.text_pairs is None else [examples.text_pairs])]
        texts: list[Texts] = list(zip(*columns, strict=True))
        found = [judgements.probabilities.get(key) for key in texts]
        one_hot_NC = (
            examples.labels
            if labels.task == "multi_label"
            else np.eye(labels.num_labels, dtype=np.float32)[examples.labels]
        )
        probabilities_NC = np.stack([true if own is None else own for own, true in zip(found, one_hot_NC, strict=True)])
        return cls(examples, texts, np.array([own is not None for own in found]), probabilities_NC)

    def judged(self) -> Examples:
        """Return the labels of the rows that were judged, without their texts."""
        examples = self.examples
        return Examples(examples.split, examples.task, examples.label2id, [], None, examples.labels[self.judged_N])


def run(stage: SoftLabelsStage, stage_dir: Path, shard: int) -> None:
    """Write `stage_dir`/tokens and `stage_dir`/outputs. They replace what an earlier run wrote.

    Raises:
        CorpusError: What `read_judgements` raises; the message names file and place.
        RunError: The rows have no labels, no training row was judged, or judgements are no better than chance.
    """
    started, tokens = time.monotonic(), Path(stage.data.tokens)
    rows = PreparedRows(tokens)
    judgements = read_judgements(stage.data, rows.labels, rows.preprocessing.pairs)
    for file, scale in judgements.scales.items():
        print(f"{stage_dir.name}: {file}: {scale}", flush=True)
    train, validation = (LabelledSplit.of(tokens, split, rows.labels, judgements) for split in SPLITS)
    known, held_out = set(train.texts), rows.held_out_texts()
    others = [texts for texts in judgements.probabilities if texts not in known and texts not in held_out]
    num_held_out = len(judgements.probabilities.keys() & (held_out - known))
    facts = _facts(judgements, train, len(others), num_held_out)
    print(f"{stage_dir.name}: {summary(facts, in_words(judgements.counts))}", flush=True)
    _check(stage, facts, train, judgements)
    statistics = _write_tokens(stage, others, stage_dir / "tokens", facts)
    others_NC = np.array([judgements.probabilities[texts] for texts in others]).reshape(-1, rows.labels.num_labels)
    taught_NC = np.concatenate([train.probabilities_NC, others_NC])
    keys, probabilities_NC = _by_key(rows, [stage_dir / "tokens"], taught_NC, validation.probabilities_NC)
    folder = stage_dir / "outputs"
    folder.mkdir(exist_ok=True)
    logits_NC = logits_of(rows.labels.task, probabilities_NC)
    write_part(folder, [0], identify(None, tokens) | {"num_blocks": 1}, len(keys), [(keys, logits_NC)])
    seconds = time.monotonic() - started
    print(f"{stage_dir.name}: {statistics['tokens']:,} tokens of other texts; built in {seconds:.0f} s", flush=True)


def _facts(judgements: Judgements, train: LabelledSplit, num_others: int, num_held_out: int) -> dict[str, Any]:
    """Return what the summary and the report say of the judgements."""
    return {
        "judged_texts": len(judgements.probabilities),
        "training_rows": len(train.texts),
        "training_rows_judged": int(train.judged_N.sum()),
        "texts_without_label": num_others,
        "texts_held_out": num_held_out,
        **judgements.counts,
        "lacking": judgements.lacking,
        "scales": judgements.scales,
        **_agreement(train),
    }


def _agreement(train: LabelledSplit) -> dict[str, Any]:
    """Return the verdict of the guard on the judgements of labelled rows; nothing where there are none."""
    examples = train.judged()
    if not len(examples.labels):
        return {}
    predicted = predictions(examples.task, logits_of(examples.task, train.probabilities_NC[train.judged_N]))
    value = scores_of(examples.task, predicted, examples.labels)[main_metric(examples.task)]
    return {"guard": judge_value(value, examples)}


def summary(facts: dict[str, Any], records: str) -> str:
    """Describe in one line what was read, what it covers, and how well it agrees with the labels."""
    judged, rows = facts["training_rows_judged"], facts["training_rows"]
    words = f"{records}; {judged:,} of {rows:,} training rows were judged ({judged / rows:.1%})"
    if judged < rows:
        words += ", the others learn from their labels alone"
    if guard := facts.get("guard"):
        words += f"; judged by the labels, their {guard['metric'].replace('_', ' ')} is {guard['value']:.4f}"
    if facts["texts_without_label"]:
        words += f"; {facts['texts_without_label']:,} judged texts have no label and are learned from as well"
    if facts["texts_held_out"]:
        words += f"; {facts['texts_held_out']:,} are also in validation or test and are not learned from"
    if facts["lacking"]:
        shown = ", ".join(f"{name!r} in {count:,}" for name, count in itertools.islice(facts["lacking"].items(), 8))
        words += f"; classes that judgements do not name: {shown}"
        words += f" and {len(facts['lacking']) - 8:,} more classes" if len(facts["lacking"]) > 8 else ""
    return words


def _check(stage: SoftLabelsStage, facts: dict[str, Any], train: LabelledSplit, judgements: Judgements) -> None:
    """Refuse judgements that nothing speaks for: of no labelled row, or no better than the largest class.

    Raises:
        RunError: It is so, and `guards.teacher` is `refuse`.
    """
    if guard := facts.get("guard"):
        enforce(stage.guards, guard, "the soft labels'", BETTER_JUDGEMENTS)
        return
    theirs, ours = (_beginning(texts) for texts in (next(iter(judgements.probabilities)), train.texts[0]))
    found = (
        f"none of the {len(train.texts):,} training rows is among the {len(judgements.probabilities):,} judged texts, "
        f"so nothing tells how good the soft labels are: the first judged text is {theirs}, the first training row "
        f"{ours}"
    )
    if stage.guards.teacher == "warn":
        print(f"warning: {found}", flush=True)
        return
    raise RunError(
        f"{found}. Have texts of data.train judged as well, as they are written there, or go on regardless with "
        "guards.teacher=warn"
    )


def _beginning(texts: Sequence[str]) -> str:
    return " and ".join(map(excerpt, texts))


def _write_tokens(
    stage: SoftLabelsStage, texts: Sequence[Texts], output_dir: Path, facts: dict[str, Any]
) -> dict[str, Any]:
    """Write the rows of texts without labels, in order, and return their statistics."""
    recipe = Recipe.of(stage.data.tokens, None)
    tokenizer = load_fast_tokenizer(recipe.tokenizer_path)
    with replaced_folder(output_dir) as (work, output), quiet():
        write_units(map(list, texts), work / "units.arrow")
        made = write_texts(work, output, output_dir, recipe, tokenizer, stage.data.num_workers)
        files = [*facts["scales"], *map(str, find_id_texts(stage.data.id_texts))]
        statistics = {**made, **facts, "files": files}
        write_statistics(output, statistics)
    return statistics


def _by_key(
    rows: PreparedRows, more: Sequence[Path], taught_NC: np.ndarray, validation_NC: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys of rows and their (N, C) probabilities, the mean of rows with the same tokens.

    What is taught does not depend on validation rows, even those that have the tokens of a training row.
    """
    taught, held_out = (
        _means(_keys(TokenRows(rows.folder, split, rows.statistics["pad_token_id"], unlabelled=unlabelled)), values_NC)
        for split, unlabelled, values_NC in (("train", more, taught_NC), ("validation", (), validation_NC))
    )
    is_new = ~np.isin(held_out[0], taught[0])
    return np.concatenate([taught[0], held_out[0][is_new]]), np.concatenate([taught[1], held_out[1][is_new]])


def _keys(rows: TokenRows) -> np.ndarray:
    """Return the keys (N) of rows, in order."""
    starts = range(0, len(rows), BATCH_ROWS)
    batches = (rows.collate(np.arange(start, min(start + BATCH_ROWS, len(rows)))) for start in starts)
    return np.concatenate([row_keys(batch) for batch in batches])


def _means(keys_N: np.ndarray, values_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each key once, and the means of the rows that have it."""
    unique, places_N, counts = np.unique(keys_N, return_inverse=True, return_counts=True)
    sums = np.zeros((len(unique), values_NC.shape[1]))
    np.add.at(sums, places_N, values_NC)
    return unique, sums / counts[:, None]


def logits_of(task: Task, probabilities_NC: np.ndarray) -> np.ndarray:
    """Return float32 logits (N, C) whose softmax, or sigmoid for several labels, is the smoothed probabilities.

    Those of single labels have a mean of 0 in each row, as nothing else says where the logits of a teacher lie.
    """
    classes = 2 if task == "multi_label" else probabilities_NC.shape[1]
    smoothed_NC = (1 - SMOOTHING) * probabilities_NC + SMOOTHING / classes
    if task == "multi_label":
        return (np.log(smoothed_NC) - np.log1p(-smoothed_NC)).astype(np.float32)
    logs_NC = np.log(smoothed_NC)
    return (logs_NC - logs_NC.mean(axis=1, keepdims=True)).astype(np.float32)
