"""The engine learns what plain AdamW learns from the global batch, for every ZeRO stage, skipped step and reload."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kd_dist.config.sections.training import Engine as EngineSettings
from kd_dist.config.sections.training import Optim
from tests.ranks import run_ranks

STEPS, RANKS, ROWS = 4, 2, 8
OPTIM = Optim(learning_rate=0.1, warmup_fraction=0.5, weight_decay=0.1, gradient_clipping=0.5)
RATES = {"layer.bias": 0.5}  # shares of the learning rate
SKIPPED = 3  # the step in which one rank has a loss that is not a number


class Model(nn.Module):
    """A linear layer, a frozen one, and a loss that is the sum of squares."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.frozen = nn.Linear(3, 2), nn.Linear(2, 2)
        self.frozen.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.frozen(self.layer(inputs)).square().sum()


def inputs(step: int) -> Tensor:
    return torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(step))


def expected() -> tuple[list[list[float]], list[float]]:
    """Weights after the last step and the gradient norm of each, from torch alone."""
    model, norms = Model(), []
    groups = [
        {"params": [model.layer.weight], "weight_decay": OPTIM.weight_decay, "rate": 1.0},
        {"params": [model.layer.bias], "weight_decay": 0.0, "rate": RATES["layer.bias"]},
    ]
    optimizer = torch.optim.AdamW(groups)
    for step in range(1, STEPS + 1):
        warmup, total = OPTIM.warmup_fraction * STEPS, STEPS
        done = step - 1
        factor = done / warmup if done < warmup else (total - done) / (total - warmup)
        for group in optimizer.param_groups:
            group["lr"] = OPTIM.learning_rate * factor * group["rate"]
        optimizer.zero_grad()
        (model(inputs(step)) / ROWS).backward()
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), OPTIM.gradient_clipping)))
        if step != SKIPPED:
            optimizer.step()
    return [*model.layer.weight.tolist(), model.layer.bias.tolist()], norms


def train() -> dict[str, Any]:
    """For each ZeRO stage the outcome of each step and the weights; a second engine goes on after the second step."""
    from kd_dist.training import distributed, engine

    engine.start()
    mine = slice(distributed.rank(), None, RANKS)
    found: dict[str, Any] = {}
    for zero_stage in (0, 1, 2):
        outcomes: list[list[Any]] = []

        def new(zero_stage: int = zero_stage) -> engine.Engine:
            settings = EngineSettings(zero_stage=zero_stage, precision="fp32")
            sizes = {"total_steps": STEPS, "micro_batch_size": 2, "accumulation_steps": 2}
            return engine.Engine(Model(), settings, OPTIM, **sizes, rate_of=lambda name: RATES.get(name, 1.0))

        running = new()
        for step in range(1, STEPS + 1):
            for micro_batch in inputs(step)[mine].split(2):
                loss = running(micro_batch) / ROWS
                poisoned = step == SKIPPED and distributed.rank() == 1
                running.backward(loss * float("nan") if poisoned else loss)
                outcome = running.step(step)
            outcomes.append([outcome.applied, outcome.gradient_norm, outcome.learning_rate])
            if step == 2:
                tensors, state = running.save()
                running.close()
                running = new()
                running.load(tensors, state)
        tensors, state = running.save()
        found[str(zero_stage)] = {
            "outcomes": [[applied, norm if applied else None, rate] for applied, norm, rate in outcomes],
            "weights": [*tensors["weights"]["layer.weight"].tolist(), tensors["weights"]["layer.bias"].tolist()],
            "saved": sorted(tensors["weights"]),
            "applied_steps": state["applied_steps"],
        }
        running.close()
    return found


@pytest.fixture(scope="module")
def trained() -> dict[str, Any]:
    return run_ranks(RANKS, "tests.training.test_engine:train")


@pytest.mark.parametrize("zero_stage", ["0", "1", "2"])
def test_two_ranks_with_two_micro_batches_learn_what_adamw_learns_from_the_global_batch(
    trained: dict[str, Any], zero_stage: str
) -> None:
    weights, norms = expected()
    found = trained[zero_stage]
    for own, expected_row in zip(found["weights"], weights, strict=True):
        assert own == pytest.approx(expected_row, abs=1e-5, rel=1e-4)
    assert [applied for applied, _, _ in found["outcomes"]] == [True, True, False, True]
    for (applied, norm, _), expected_norm in zip(found["outcomes"], norms, strict=True):
        assert not applied or norm == pytest.approx(expected_norm, rel=1e-4)


@pytest.mark.parametrize("zero_stage", ["0", "1", "2"])
def test_only_what_is_trained_is_saved_and_skipped_steps_do_not_count(trained: dict[str, Any], zero_stage: str) -> None:
    assert trained[zero_stage]["saved"] == ["layer.bias", "layer.weight"]
    assert trained[zero_stage]["applied_steps"] == STEPS - 1
    assert [rate for _, _, rate in trained[zero_stage]["outcomes"]] == pytest.approx([0.0, 0.05, 0.1, 0.05])


def train_in_bf16() -> dict[str, Any]:
    """How often the host waits for the device in two steps, and what gradients are exchanged in."""
    from deepspeed.accelerator import get_accelerator
    from deepspeed.runtime.torch_autocast import has_comm_dtype

    from kd_dist.training import engine

    engine.start()
    running = engine.Engine(
        Model(),
        EngineSettings(precision="bf16"),
        OPTIM,
        total_steps=STEPS,
        micro_batch_size=4,
        accumulation_steps=2,
    )
    accelerator, waits = get_accelerator(), []
    accelerator.synchronize = lambda *arguments: waits.append(arguments)
    for step in (1, 2):
        for micro_batch in inputs(step).split(4):
            running.backward(running(micro_batch) / ROWS)
        running.step(step)
    return {
        "waits": len(waits),
        "lowered": [name for name, p in running.module.named_parameters() if has_comm_dtype(p)],
    }


def test_no_timer_waits_for_the_device_and_gradients_are_exchanged_in_fp32() -> None:
    assert run_ranks(1, "tests.training.test_engine:train_in_bf16") == {"waits": 0, "lowered": []}
