"""One training step of TinyBERT's layer distillation, as first published and as kd_dist does it, side by side.

    python benchmarks/distillation_step.py --teacher TEACHER_DIR --titles 'titles/*.txt' --text 'corpus/*.txt'

A step is the teacher's forward pass, the student's, the loss, the backward pass and AdamW. Both forms train on the
same rows, in turn (A B A B ...), so that other load on the machine slows both. Before anything is timed, the script
proves that they compute the same: with dropout off, kd_dist's `compat="huawei"` must give the published loss. A third
form takes its turn as the floor: the same models and AdamW, with the mean of the student's last states for a loss, and
nothing handed out in between.

Shapes: B batch, S sequence, D width, H heads, K head size.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count, islice
from multiprocessing import get_context
from statistics import mean, median
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
import transformers
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, BertModel, PreTrainedModel
from transformers.masking_utils import eager_mask
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from benchmarks.measuring import (
    DEVICE,
    compare,
    comparison_cells,
    describe_machine,
    measure_and_show,
    positive,
    read_first_lines,
    save_random_encoder,
    silence_transformers,
    timed,
    to_device,
    value_in,
)
from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.sections.data import TokenData
from kd_dist.config.sections.training import Optim
from kd_dist.data.corpus_rows import prepare
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.token_rows import TokenRows
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.errors import RunError, UserError, exit_with_message
from kd_dist.models.students import random_model, student_config
from kd_dist.models.teacher import Batch, Teacher
from kd_dist.objectives.tinybert import TinyBert
from kd_dist.training.batches import BatchPlan

TOLERANCE = 1e-4  # relative difference of the two losses
WARM_UP_ROUNDS = 2
MICRO_BATCHES_PER_STEP = 8  # as in the shipped jobs: a step of 256 rows, sorted by length, in micro-batches of 32


class Case(NamedTuple):
    """What a step trains on. The published form pads every batch to `max_length`."""

    source: str
    max_length: int
    pack: bool
    batch_size: int
    measures_memory: bool = False


CASES = {
    "titles": Case("titles", max_length=128, pack=False, batch_size=32),
    "text128": Case("text", max_length=128, pack=True, batch_size=32),
    "text512": Case("text", max_length=512, pack=True, batch_size=8, measures_memory=True),
}


class Models(NamedTuple):
    """The models of both forms. The tokenizer is the teacher's."""

    teacher: str
    student: str
    precision: str

    def build_student(self, **changes: Any) -> PreTrainedModel:
        config = student_config(self.student, load_tokenizer(self.teacher))
        config.update(changes)
        return random_model(MODEL_MAPPING, config).to(DEVICE)

    def autocast(self) -> torch.autocast:
        return torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")


class Published:
    """The step of the first published TinyBERT code (`general_distill.py`), written anew.

    Every layer of both models keeps its S x S scores and its hidden state, the teacher runs in train mode with autograd
    and is detached afterwards, padding takes part in every mean, and one projection serves all hidden states. What the
    published loop leaves alive longer than it needs (all detached outputs of the teacher) is freed here.
    """

    def __init__(self, models: Models) -> None:
        student = models.build_student(attention_probs_dropout_prob=0.1)  # as in the published student's configuration
        teacher = AutoModel.from_pretrained(models.teacher, dtype=torch.float32).to(DEVICE)
        self.student, self.teacher = _with_published_attention(student), _with_published_attention(teacher)
        self.projection = nn.Linear(student.config.hidden_size, teacher.config.hidden_size).to(DEVICE)
        self.autocast = models.autocast()
        self.optimizer = _adamw([*student.parameters(), *self.projection.parameters()])

    def loss(self, batch: Batch) -> Tensor:
        with self.autocast:
            student_scores, student_states = self._run(self.student, batch)
            student_states = [self.projection(state_BSD) for state_BSD in student_states]
            teacher_scores, teacher_states = self._run(self.teacher, batch)
            teacher_scores = [score_BHSS.detach() for score_BHSS in teacher_scores]
            teacher_states = [state_BSD.detach() for state_BSD in teacher_states]
            stride = len(teacher_scores) // len(student_scores)
            attention = zip(student_scores, teacher_scores[stride - 1 :: stride], strict=True)
            hidden = zip(student_states, teacher_states[::stride], strict=True)
            unmasked = ([torch.where(score <= -1e2, 0.0, score) for score in pair] for pair in attention)
            return torch.stack([F.mse_loss(student, teacher) for student, teacher in (*unmasked, *hidden)]).sum()

    def _run(self, model: nn.Module, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        ids_BS, mask_BS = batch["input_ids"].to(DEVICE), batch["attention_mask"].to(DEVICE)
        mask_B11S = (1.0 - mask_BS.float())[:, None, None, :] * -10000.0
        outputs = model(ids_BS, attention_mask=mask_B11S, output_attentions=True, output_hidden_states=True)
        return outputs.attentions, outputs.hidden_states


def _with_published_attention(model: PreTrainedModel) -> PreTrainedModel:
    transformers.AttentionInterface.register("published_tinybert", _published_attention)
    transformers.AttentionMaskInterface.register("published_tinybert", eager_mask)  # lets a finished mask pass
    model.set_attn_implementation("published_tinybert")
    return model.train()


def _published_attention(
    module: nn.Module, query_BHSK: Tensor, key_BHSK: Tensor, value_BHSK: Tensor, mask_B11S: Tensor, **options: Any
) -> tuple[Tensor, Tensor]:
    """Plain attention that hands out its masked scores where others hand out their probabilities."""
    score_BHSS = query_BHSK @ key_BHSK.mT * options["scaling"]
    score_BHSS = score_BHSS + mask_B11S.to(score_BHSS.dtype)
    probability_BHSS = F.dropout(score_BHSS.softmax(dim=-1), options["dropout"], module.training)
    return (probability_BHSS.to(value_BHSK.dtype) @ value_BHSK).transpose(1, 2), score_BHSS


class Ours:
    """The same step as a training run of kd_dist takes it, with its own objective and teacher."""

    def __init__(self, models: Models, settings: TinyBertObjective | None = None) -> None:
        teacher_config = AutoConfig.from_pretrained(models.teacher)
        self.objective = TinyBert(models.build_student(), teacher_config, settings or TinyBertObjective()).to(DEVICE)
        self.objective.train()
        self.teacher = Teacher(models.teacher, self.objective.wanted(), precision=models.precision, device=DEVICE)
        self.autocast = models.autocast()
        self.optimizer = _adamw(list(self.objective.parameters()))

    def loss(self, batch: Batch) -> Tensor:
        counts = self.objective.counts(batch)  # from the batch on the CPU: no wait for the device
        batch = to_device(batch)
        targets = self.teacher(batch)
        with self.autocast:
            sums = self.objective(batch, targets).sums
        return torch.stack([sums[term] / counts[term] for term in sums]).sum()


class Floor:
    """What no form can do without: the teacher's forward pass, the student's, its backward pass and AdamW."""

    def __init__(self, models: Models) -> None:
        self.student = models.build_student().train()
        self.teacher = AutoModel.from_pretrained(models.teacher, dtype=torch.float32).to(DEVICE).eval()
        self.teacher.to(torch.bfloat16 if models.precision == "bf16" else torch.float32).requires_grad_(False)
        self.autocast = models.autocast()
        self.optimizer = _adamw(list(self.student.parameters()))

    def loss(self, batch: Batch) -> Tensor:
        inputs = {name: batch[name].to(DEVICE) for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            self.teacher(**inputs)
        with self.autocast:
            return self.student(**inputs).last_hidden_state.float().mean()


FORMS: dict[str, Any] = {"published": Published, "ours": Ours}


def _adamw(parameters: list[nn.Parameter]) -> torch.optim.AdamW:
    return torch.optim.AdamW(parameters, lr=1e-4, weight_decay=Optim().weight_decay, fused=True)


def prepare_rows(case: Case, patterns: list[str], tokenizer_path: str, tokens_dir: Path) -> None:
    """Tokenize the first lines of the files, each up to its first tab."""
    source = tokens_dir.with_suffix(".txt")
    source.write_text("\n".join(read_first_lines(patterns)), encoding="utf-8")
    where: dict[str, Any] = {"files": [source], "tokenizer_path": tokenizer_path, "output_dir": tokens_dir}
    how: dict[str, Any] = {"text_field": "text", "word_starts": False, "validation_fraction": 0.0, "num_workers": 0}
    prepare(max_length=case.max_length, pack=case.pack, **where, **how)


def batches(tokens_dir: Path, case: Case) -> Iterator[dict[str, Batch]]:
    """Yield the same rows for each form: micro-batches of a training plan, from short rows to long ones in turn."""
    pad_token_id = load_tokenizer(PreparedRows(tokens_dir).tokenizer_folder).pad_token_id
    rows = TokenRows(tokens_dir, "train", pad_token_id)
    sizes = {"global_batch_size": case.batch_size * MICRO_BATCHES_PER_STEP, "micro_batch_size": case.batch_size}
    plan = BatchPlan(rows.lengths, **sizes, bucket_steps=TokenData(tokens="").bucket_steps, seed=42)
    fills = {"input_ids": pad_token_id, "attention_mask": 0}
    for step in count(1):
        ours = rows.collate(plan.micro_batches(step, rank=0, world_size=1)[step % MICRO_BATCHES_PER_STEP].rows)
        missing = case.max_length - ours["input_ids"].shape[1]
        published = {name: F.pad(ours[name], (0, missing), value=fill) for name, fill in fills.items()}
        yield {"published": published, "ours": ours}


def check_equality(models: Models, batch: Batch) -> dict[str, float]:
    """Return the loss of both forms on one batch with equal weights, without dropout, in fp32.

    Raises:
        RunError: The losses differ.
    """
    models = models._replace(precision="fp32")
    published, ours = Published(models), Ours(models, TinyBertObjective(compat="huawei", projection="shared"))
    published.student.load_state_dict(ours.objective.student.state_dict())
    published.projection.load_state_dict(ours.objective.projections["all"].state_dict())
    for module in (published.student, published.teacher, ours.objective):
        module.eval()
    with torch.no_grad():
        expected, found = float(published.loss(batch)), float(ours.loss(batch))
    difference = abs(found - expected) / abs(expected)
    if not difference < TOLERANCE:
        raise RunError(f"the two forms compute different losses: published {expected}, kd_dist {found}")
    return {"published": expected, "ours": found, "relative_difference": difference, "tolerance": TOLERANCE}


def take_step(form: Any, batch: Batch) -> float:
    """Take one training step and return its seconds."""

    def step() -> None:
        form.optimizer.zero_grad()
        form.loss(batch).backward()
        form.optimizer.step()

    return timed(step)[0]


def measure_time(models: Models, tokens_dir: Path, case: Case, num_rounds: int) -> dict[str, Any]:
    forms = {name: form(models) for name, form in FORMS.items()}
    rounds: list[dict[str, Any]] = []
    floor = Floor(models)
    for batch in islice(batches(tokens_dir, case), WARM_UP_ROUNDS + num_rounds):
        seconds = {name: take_step(form, batch[name]) for name, form in forms.items()}
        seconds["floor"] = take_step(floor, batch["ours"])
        padded_to = {name: batch[name]["input_ids"].shape[1] for name in forms}
        rounds.append(
            {"seconds": seconds, "padded_to": padded_to, "tokens": int(batch["ours"]["attention_mask"].sum())}
        )
    timed_rounds = rounds[WARM_UP_ROUNDS:]
    shares = [each["seconds"]["floor"] / each["seconds"]["ours"] for each in timed_rounds]
    return compare(timed_rounds) | {"share_of_the_floor": median(shares)}


def measure_memory(models: Models, tokens_dir: Path, case: Case) -> dict[str, dict[str, int]]:
    """Return the peak memory of two steps, each form in a fresh process, since a peak cannot be reset."""
    peaks = {}
    for name in FORMS:
        with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
            peaks[name] = pool.submit(_memory_of, name, models, tokens_dir, case).result()
    return peaks


def _memory_of(name: str, models: Models, tokens_dir: Path, case: Case) -> dict[str, int]:
    silence_transformers()
    form, batch = FORMS[name](models), next(batches(tokens_dir, case))[name]
    before = _peak_bytes()
    for _ in range(2):  # AdamW's moments appear in the first
        take_step(form, batch)
    return {"peak_bytes": _peak_bytes(), "before_first_step_bytes": before, "of_steps_bytes": _peak_bytes() - before}


def _peak_bytes() -> int:
    """Return the peak memory of this process so far: that of the GPU if there is one, else the resident set."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated()
    # Not ru_maxrss: a process inherits that from the one that started it, even through exec.
    return 1024 * int(value_in("/proc/self/status", "VmHWM").split()[0])


def show(result: dict[str, Any], console: Console) -> None:
    machine, precision = result["machine"], result["options"]["precision"]
    title = f"sequences per second: medians; {machine['device']}, {machine['threads']} threads, {precision}"
    table = Table("case", "batch", "padded to", "published", "kd_dist", "ratio", "range", "of the floor", title=title)
    for name, case in result["cases"].items():
        lengths = [f"{mean(each['padded_to'][form] for each in case['rounds']):.0f}" for form in FORMS]
        cells = comparison_cells(case, case["batch_size"], digits=1)
        share = f"{case['share_of_the_floor']:.2f}"
        table.add_row(name, str(case["batch_size"]), " / ".join(lengths), *cells, share)
    console.print(table)
    for name, case in result["cases"].items():
        for form, memory in case.get("memory", {}).items():
            peak, steps = memory["peak_bytes"] / 1e9, memory["of_steps_bytes"] / 1e9
            console.print(f"{name}, {form}: peak memory {peak:.2f} GB, {steps:.2f} GB more than before the first step")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Times a distillation step as first published and as kd_dist takes it, on the same rows in turn.",
        epilog="example: python benchmarks/distillation_step.py --random-teacher --titles titles.txt --cases titles",
    )
    teacher = parser.add_mutually_exclusive_group(required=True)
    teacher.add_argument("--teacher", metavar="DIR", help="Hugging Face directory of an encoder and its tokenizer")
    teacher.add_argument("--random-teacher", action="store_true", help="BERT of 12 x 384, 12 heads, random weights")
    parser.add_argument("--student", default="tinybert_4l_312", metavar="NAME", help="name in configs/models or file")
    parser.add_argument("--titles", nargs="+", default=[], metavar="FILE", help="short texts, one a line; globs too")
    parser.add_argument("--text", nargs="+", default=[], metavar="FILE", help="long texts; a blank line ends one")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="default: all of them")
    parser.add_argument("--rounds", type=positive, default=10, metavar="N", help="timed rounds per case (default: 10)")
    for name, case in CASES.items():
        text = f"sequences per step (default: {case.batch_size})"
        parser.add_argument(f"--batch-size-{name}", type=positive, default=case.batch_size, metavar="N", help=text)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="bf16: autocast (default: fp32)")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="every timing, the machine and the versions")
    return parser.parse_args(arguments)


def chosen_cases(options: argparse.Namespace) -> dict[str, Case]:
    cases = {name: CASES[name]._replace(batch_size=getattr(options, f"batch_size_{name}")) for name in options.cases}
    for name, case in cases.items():
        if not getattr(options, case.source):
            raise UserError(f"the case {name} needs --{case.source} FILE; leave the case out with --cases")
    return cases


def run(options: argparse.Namespace, work: Path, console: Console) -> dict[str, Any]:
    result: dict[str, Any] = {"machine": describe_machine(), "options": vars(options), "cases": {}}
    cases, texts = chosen_cases(options), options.titles + options.text
    teacher = options.teacher
    if options.random_teacher:
        teacher = save_random_encoder(BertModel, texts, work / "teacher")
    models = Models(teacher, options.student, options.precision)
    for name, case in cases.items():
        prepare_rows(case, getattr(options, case.source), teacher, work / name)
    first, case = next(iter(cases.items()))
    equality = result["equality"] = check_equality(models, next(batches(work / first, case))["published"])
    losses = "{published:.6f} and {ours:.6f}, relative difference {relative_difference:.1e}".format(**equality)
    console.print(f"The same loss in both forms: {losses}")
    for name, case in cases.items():
        console.print(f"measuring {name} ...")
        memory = {"memory": measure_memory(models, work / name, case)} if case.measures_memory else {}
        result["cases"][name] = case._asdict() | memory | measure_time(models, work / name, case, options.rounds)
    return result


if __name__ == "__main__":
    exit_with_message(lambda: measure_and_show(parse(), run, show))
