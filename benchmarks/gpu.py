"""Everything that wants a GPU, in one command: first whether results are right, then how fast they come.

    python benchmarks/gpu.py --titles data/titles.txt --text data/text.txt --output results/gpu

The teacher is a BERT of 12 x 768 with random weights, the student `tinybert_4l_312`. Training is measured in real runs
of the launcher, from the files of text to the export. It needs no network and ends within nine minutes on an H100;
`--small` runs all of it on tiny models in a minute of a CPU, to see that it works.

Shapes: B batch, S sequence, H heads, K and L head sizes, N samples, C classes.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel

from benchmarks import distillation_step
from benchmarks.distillation_step import Case, Models, Ours, batches, prepare_rows
from benchmarks.measuring import (
    DEVICE,
    describe_machine,
    read_first_lines,
    save_random_encoder,
    silence_transformers,
    timed,
    to_device,
    write_result,
)
from kd_dist.config.sections.training import Engine as EngineSettings
from kd_dist.config.sections.training import Optim
from kd_dist.data.preprocessing import Encoding
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.errors import RunError, exit_with_message
from kd_dist.evaluation.operations import Operations
from kd_dist.models.attention import Attention
from kd_dist.models.classifier import Classifier, load_classifier, plain_preprocessing, predict
from kd_dist.models.early_exit import FastBertForSequenceClassification
from kd_dist.models.exit_rules import ExitRule
from kd_dist.models.uncertainty import uncertainty
from kd_dist.objectives.layer_losses import attention_score_error, attention_score_error_gram
from kd_dist.runs.metrics import read_metrics

ROOT = Path(__file__).resolve().parent.parent
STEPS_COMPARED = 10  # of training by each ZeRO stage and precision
PROFILED_STEPS = 5
RATE = "speed/samples_per_second"


@dataclass(frozen=True)
class Sizes:
    """What `--small` reduces.

    Attributes:
        teacher: layers, width and heads of the teacher.
        student: a file in configs/models.
        rows: sequences per step by length.
        steps: of each training run, of which the second half counts.
        exits: rows that a model with exits classifies.
        rounds: timed rounds of a step.
    """

    teacher: tuple[int, int, int]
    student: str
    rows: dict[int, int]
    steps: int
    exits: int
    rounds: int


FULL = Sizes((12, 768, 12), "tinybert_4l_312", {40: 1024, 128: 512, 512: 128}, steps=60, exits=4096, rounds=12)
SMALL = Sizes((4, 64, 4), "bert_tiny_2l_64", {40: 8}, steps=10, exits=64, rounds=2)
AIMS = {40: 25_000, 128: 7_000, 512: 1_500}  # sequences per second of an H100


@dataclass(frozen=True)
class Row:
    """A line of the table; the aim is a bound in the direction that `more_is_better` says."""

    measure: str
    figure: float
    aim: float | None = None
    more_is_better: bool = True

    def met(self) -> str:
        if self.aim is None:
            return ""
        return "yes" if (self.figure >= self.aim) == self.more_is_better or self.figure == self.aim else "no"


class Bench:
    """The measurements, which share their models and texts.

    Args:
        options: of the command line.
        work: a temporary folder.
    """

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.sizes, self.work, self.options = SMALL if options.small else FULL, work, options
        self.texts = {40: options.titles, 128: options.text, 512: options.text}
        layers, width, heads = self.sizes.teacher
        self.teacher = save_random_encoder(BertModel, options.titles + options.text, work / "teacher")
        config = BertConfig.from_pretrained(self.teacher)
        shape = {"num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads}
        tokens = len(load_tokenizer(self.teacher))
        config.update({**shape, "intermediate_size": 4 * width, "vocab_size": tokens})
        BertModel(config).save_pretrained(self.teacher)
        self.models = Models(self.teacher, self.sizes.student, "bf16" if DEVICE.type == "cuda" else "fp32")
        self._tokens: dict[int, Path] = {}

    # ---------------------------------------------------------------------------------------------------- correctness

    def attention_loss(self) -> Iterator[Row]:
        """Compare the fused attention loss with the direct one in float64, values and gradients."""
        student, teacher = (self._attention(size) for size in (26, 64))
        mask_BS = torch.arange(96, device=DEVICE) < torch.tensor([[96], [40], [7]], device=DEVICE)
        exact = self._loss(attention_score_error, student, teacher, mask_BS, torch.float64)
        fused = self._loss(attention_score_error_gram, student, teacher, mask_BS, torch.float32)
        for name, one, other in zip(("value", "gradient"), fused, exact, strict=True):
            error = float((one - other).norm() / other.norm())
            yield Row(
                f"attention loss, fused against direct in float64: relative error of its {name}", error, 1e-5, False
            )

    def _attention(self, head_size: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(head_size)
        return tuple(torch.randn(3, 12, 96, head_size, generator=generator).to(DEVICE) for _ in range(2))  # type: ignore[return-value]

    @staticmethod
    def _loss(form: Any, student: Any, teacher: Any, mask_BS: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        query_BHSK, key_BHSK = (tensor.to(dtype).requires_grad_() for tensor in student)
        others = {} if form is attention_score_error_gram else {"compat": "none"}
        given = Attention(teacher[0].to(dtype), teacher[1].to(dtype), scaling=0.1)
        loss = form(Attention(query_BHSK, key_BHSK, scaling=0.2), given, mask_BS, **others)
        loss.backward()
        assert query_BHSK.grad is not None
        return loss.detach().double(), query_BHSK.grad.double()

    def precisions(self) -> Iterator[Row]:
        """Train by every ZeRO stage and in bf16, and compare the losses with those of ZeRO 0 in fp32."""
        plain = self._losses(EngineSettings(zero_stage=0, precision="fp32", tf32=False))
        for stage in (1, 2):
            error = _difference(self._losses(EngineSettings(zero_stage=stage, precision="fp32", tf32=False)), plain)
            yield Row(f"ZeRO {stage} against 0, fp32: largest relative difference of a loss", error, 1e-5, False)
        error = _difference(self._losses(EngineSettings(precision="bf16")), plain)
        yield Row("bf16 against fp32: largest relative difference of a loss", error, 0.02, False)

    def _losses(self, settings: EngineSettings) -> list[float]:
        from kd_dist.training import engine

        engine.start()
        torch.manual_seed(1)
        models = self.models._replace(precision=settings.precision)
        ours = Ours(models)
        for module in ours.objective.modules():  # dropout would draw other numbers in another precision
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        running = engine.Engine(
            ours.objective,
            settings,
            Optim(learning_rate=1e-3),
            total_steps=100,
            micro_batch_size=8,
            accumulation_steps=1,
        )
        losses = []
        for step, batch in enumerate(islice(self._batches(40, 8), STEPS_COMPARED), start=1):
            counts = ours.objective.counts(batch)
            on_device = to_device(batch)
            sums = running(on_device, ours.teacher(on_device)).sums
            loss = torch.stack([sums[term] / counts[term] for term in sums]).sum()
            running.backward(loss)
            running.step(step)
            losses.append(loss.item())
        running.close()
        return losses

    def resuming(self) -> Iterator[Row]:
        """Stop a training run by a signal and go on: its weights are those of an undisturbed one, bit for bit."""
        settings = ["train.deterministic=true", "train.global_batch_size=16", "train.steps=120"]
        self._launch("whole", 40, settings)
        process = subprocess.Popen(self._command("stopped", 40, settings), stdout=subprocess.PIPE, text=True)
        metrics = self.work / "runs" / "tinybert_general" / "stopped" / "distill" / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and read_metrics(metrics)):
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        process.communicate()
        if "resumed at step" not in self._launch("stopped", 40, settings):
            raise RunError("the run was not stopped before its end: there is nothing to compare")
        one, other = (
            load_file(self.work / "runs" / "tinybert_general" / name / "export" / "model.safetensors")
            for name in ("whole", "stopped")
        )
        different = sum(not torch.equal(one[name], other[name]) for name in one)
        yield Row("weights that differ after a stop and a resumption, train.deterministic=true", different, 0, False)

    # ---------------------------------------------------------------------------------------------------------- speed

    def training(self) -> Iterator[Row]:
        """Train by the launcher, and read its own figures: the medians of the second half of the run."""
        for length, rows in self.sizes.rows.items():
            name = f"training_{length}"
            settings = [f"train.steps={self.sizes.steps}", f"train.global_batch_size={rows}"]
            self._launch(name, length, settings)
            metrics = read_metrics(self.work / "runs" / "tinybert_general" / name / "distill" / "metrics.jsonl")
            steady = [row for row in metrics if row["global_step"] > self.sizes.steps / 2 and RATE in row]
            rate = median(row[RATE] for row in steady)
            yield Row(f"training, {_texts(length)}: sequences per second", rate, AIMS[length])
            waited = median(row["speed/data_wait_share"] for row in steady)
            yield Row(f"training, {_texts(length)}: share of the time that it waits for rows", waited, 0.05, False)

    def steps(self) -> Iterator[Row]:
        """Time a step beside its floor, and look at what the GPU does meanwhile."""
        for length, rows in self.sizes.rows.items():
            ours, floor = Ours(self.models), Floor(self.models)
            found = list(islice(self._batches(length, rows), self.sizes.rounds + 2))
            seconds: dict[str, list[float]] = {"ours": [], "floor": []}
            for batch in found:
                for name, form in (("floor", floor), ("ours", ours)):
                    seconds[name].append(distillation_step.take_step(form, batch))
            share = median(seconds["floor"][2:]) / median(seconds["ours"][2:])
            yield Row(f"step, {_texts(length)}: share of its floor", share, 0.9)
            if DEVICE.type == "cuda":
                yield from self._profiled(ours, found, length)

    def _profiled(self, form: Any, found: list[Any], length: int) -> Iterator[Row]:
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            seconds, _ = timed(lambda: [distillation_step.take_step(form, batch) for batch in found[:PROFILED_STEPS]])
        operators = profiler.key_averages()
        kernels = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
        busy = sum(event.device_time for event in kernels) / 1e6
        table = operators.table(sort_by="self_cuda_time_total", row_limit=25, max_name_column_width=70)
        (self.options.output / f"operators_{length}.txt").write_text(table, encoding="utf-8")
        yield Row(f"step, {_texts(length)}: share of the time that the GPU computes", busy / seconds, 0.95)
        yield Row(f"step, {_texts(length)}: milliseconds of the GPU", 1000 * busy / PROFILED_STEPS)
        yield Row(f"step, {_texts(length)}: kernels", len(kernels) / PROFILED_STEPS)

    def exits(self) -> Iterator[Row]:
        """Classify with exits: the same as one row at a time, and as fast as the saved operations promise."""
        plain, rows = self._with_exits()
        rule, operations, batch_size = self._halving(plain, rows[:256]), Operations.of(plain), 256
        leaving = replace(plain, exit_rule=rule)
        together, alone = (predict(leaving, rows[:64], size).layers_N for size in (64, 1))
        assert together is not None
        assert alone is not None
        different = int((together - alone).count_nonzero())
        yield Row("early exit: rows that leave at another layer than alone", different, 0, False)
        lengths_N = np.array([len(row.input_ids) for row in rows])
        layers_N = predict(leaving, rows, batch_size).layers_N
        assert layers_N is not None
        full = operations.per_row(lengths_N, np.full(len(rows), plain.num_layers), plain.exit_rule).sum()
        saved = full / operations.per_row(lengths_N, layers_N.numpy(), rule).sum()
        seconds = [
            median(timed(partial(predict, form, rows, batch_size))[0] for _ in range(5)) for form in (plain, leaving)
        ]
        share = seconds[0] / seconds[1] / saved
        yield Row(f"early exit, batches of {batch_size}: wall-clock over operations ({saved:.1f}x fewer)", share, 0.8)

    def _with_exits(self) -> tuple[Classifier, list[Encoding]]:
        """Return a model with random branches, at which no row leaves, and titles."""
        torch.manual_seed(0)
        config = BertConfig.from_pretrained(self.teacher, num_labels=10)
        backbone = AutoModelForSequenceClassification.from_config(config)
        folder = self.work / "exits"
        FastBertForSequenceClassification.from_classifier(backbone).save_pretrained(folder)
        load_tokenizer(self.teacher).save_pretrained(folder)
        classifier = load_classifier(folder, DEVICE).at(speed=0.0)
        texts = list(islice(read_first_lines(self.options.titles), self.sizes.exits))
        return classifier, classifier.encode(plain_preprocessing(classifier, pairs=False), texts, None)[0]

    @staticmethod
    @torch.no_grad()
    def _halving(classifier: Classifier, rows: list[Encoding]) -> ExitRule:
        """Return the rule by which about half of the rows that are left leave at each layer."""
        model, rule = classifier.model, classifier.exit_rule
        assert rule is not None
        logits_LNC = model.all_logits(classifier.batch(rows)).cpu()
        left_N, thresholds = torch.ones(len(rows), dtype=torch.bool), []
        for logits_NC in logits_LNC[:-1]:
            of_rows_N = uncertainty(logits_NC, model.task, rule.measure, rule.top_k)
            values = of_rows_N[left_N].sort().values
            thresholds.append(float(values[(len(values) - 1) // 2 :][:2].mean()) if len(values) else 0.0)
            left_N &= of_rows_N >= thresholds[-1]
        return replace(rule, thresholds=tuple(thresholds))

    # --------------------------------------------------------------------------------------------------------- shared

    def _batches(self, length: int, rows: int) -> Iterator[Any]:
        """Yield micro-batches of rows of real text, the same ones at each call."""
        case = Case("", max_length=length, pack=length > 40, batch_size=rows)
        if length not in self._tokens:
            self._tokens[length] = self.work / f"tokens_{length}"
            prepare_rows(case, self.texts[length], self.teacher, self._tokens[length])
        return (both["ours"] for both in batches(self._tokens[length], case))

    def _command(self, run_id: str, length: int, settings: list[str]) -> list[str]:
        files = ",".join(str(Path(file).resolve()) for file in self.texts[length])
        command = [sys.executable, str(ROOT / "launch" / "slurm.py"), "--job", "tinybert_general", "--cluster", "local"]
        command += ["--runs-dir", str(self.work / "runs"), "--run-id", run_id, f"data.corpus={files}"]
        command += [f"teacher.path={self.teacher}", f"student.config={self.sizes.student}", f"data.max_length={length}"]
        return [*command, "cadence.log_every_n_steps=5", *settings]

    def _launch(self, run_id: str, length: int, settings: list[str]) -> str:
        ended = subprocess.run(self._command(run_id, length, settings), capture_output=True, text=True)
        if ended.returncode:
            raise RunError(f"the run {run_id} failed:\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}")
        return ended.stdout + ended.stderr


class Floor(Ours):
    """The least that a step can take: the teacher, and the student with a loss that costs nothing."""

    def loss(self, batch: Any) -> Tensor:
        batch = to_device(batch)
        self.teacher(batch)
        with self.autocast:
            inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
            return self.objective.student(**inputs).last_hidden_state.float().mean()


def _difference(found: list[float], expected: list[float]) -> float:
    return max(abs(one - other) / abs(other) for one, other in zip(found, expected, strict=True))


def _texts(length: int) -> str:
    return "titles" if length == 40 else f"{length} tokens"


PARTS = ("attention_loss", "precisions", "exits", "steps", "training", "resuming")


def run(options: argparse.Namespace) -> None:
    silence_transformers()
    os.environ["WANDB_MODE"] = "disabled"
    options.output.mkdir(parents=True, exist_ok=True)
    console, started, found = Console(width=140), time.monotonic(), []
    bench = Bench(options, options.work)
    for part in options.parts:
        for row in getattr(bench, part)():
            found.append(row)
            console.print(f"{time.monotonic() - started:4.0f} s  {row.measure}: {row.figure:.6g}", highlight=False)
            rows = [asdict(one) | {"met": one.met()} for one in found]
            write_result({"machine": describe_machine(), "rows": rows}, options.output / "gpu.json")
    table = Table("measure", "figure", "aim", "met", title=describe_machine()["device"])
    for row in found:
        sign = "at least" if row.more_is_better else "at most"
        table.add_row(row.measure, f"{row.figure:.4g}", f"{sign} {row.aim:g}" if row.aim is not None else "", row.met())
    console.print(table)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--titles", nargs="+", required=True, metavar="FILE", help="short texts, one a line")
    parser.add_argument("--text", nargs="+", required=True, metavar="FILE", help="long texts")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--small", action="store_true", help="tiny models and few steps, to see that it works")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="for models and runs")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="for gpu.json and operators")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    exit_with_message(lambda: run(parse()))
