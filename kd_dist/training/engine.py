"""DeepSpeed behind five operations: call, backward, step, save and load. The only file that imports deepspeed.

Parameters are always fp32; bf16 is autocast over them. So checkpoints have one form for every ZeRO stage.
"""

import logging
import os
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import deepspeed.ops
import torch
from deepspeed.utils import safe_get_full_optimizer_state, safe_set_full_fp32_param, safe_set_full_optimizer_state
from torch import Tensor, nn
from transformers import get_scheduler

from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.training import Engine as EngineSettings
from kd_dist.config.sections.training import Optim
from kd_dist.errors import RunError
from kd_dist.files import read_json
from kd_dist.models.device import in_bf16, own_device
from kd_dist.training import distributed
from kd_dist.training.checkpoint import Tensors

# Before the import, or DeepSpeed says so on every rank.
os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")

MOMENTS = ("exp_avg", "exp_avg_sq")

SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


@dataclass(frozen=True)
class StepOutcome:
    """The outcome of an optimizer step.

    Attributes:
        applied: Whether the optimizer changed the weights; it does not if gradients are not finite.
        gradient_norm: The global norm before clipping.
        learning_rate: The learning rate of the step.
    """

    applied: bool
    gradient_norm: float
    learning_rate: float


def start() -> None:
    """Choose this rank's device and join the other ranks. Collective.

    Raises:
        RunError: GPUs were requested but torch sees none, or there are more ranks than GPUs on this machine.
    """
    distributed.set_environment_defaults()
    _claim_device()
    for name in ("DeepSpeed", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    # Long waits happen on the CPU group; a GPU collective that takes this long has failed and must end the job.
    deepspeed.init_distributed(timeout=timedelta(minutes=30), verbose=False)
    distributed.cpu_group()


def _claim_device() -> None:
    """Use this rank's GPU, or its share of the CPU cores.

    Raises:
        RunError: GPUs were requested but torch sees none, or there are more ranks than GPUs on this machine.
    """
    if not torch.cuda.is_available():
        if os.environ.get("SLURM_GPUS_ON_NODE", "0") != "0" and os.environ.get("KD_DIST_NEEDS_GPUS") == "1":
            raise RunError(
                "GPUs were requested on this node, but torch sees none: check the driver, and whether the installed "
                "torch is a CPU build (`python -c 'import torch; print(torch.version.cuda)'`)"
            )
        # This op would need a compiler on a CPU machine.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        torch.set_num_threads(distributed.threads_per_rank())
        return
    visible, ranks = torch.cuda.device_count(), distributed.ranks_of_this_node()
    if 1 < visible < ranks or (visible == 1 and ranks > 1 and "SLURM_JOB_ID" not in os.environ):
        raise RunError(f"{ranks} ranks on this machine, but {visible} GPU{'s' * (visible > 1)}: start one rank per GPU")
    torch.cuda.set_device(own_device())
    # A scheduler that confines a task to one GPU numbers it 0 on every rank, and DeepSpeed uses LOCAL_RANK.
    os.environ["LOCAL_RANK"] = str(own_device().index)


class ClippedAdamW(torch.optim.AdamW):
    """AdamW that clips by the global norm and skips a step whose norm is not finite.

    For ZeRO stage 0, where DeepSpeed neither reports the norm nor checks it. The gradients are already averaged over
    the ranks, so every rank sees the same norm and makes the same decision.
    """

    def __init__(self, groups: Any, *, max_norm: float, **options: Any) -> None:
        super().__init__(groups, **options)
        self.max_norm = max_norm or float("inf")
        self.gradient_norm = 0.0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        parameters = [p for group in self.param_groups for p in group["params"]]
        self.gradient_norm = float(nn.utils.clip_grad_norm_(parameters, self.max_norm))
        if torch.isfinite(torch.tensor(self.gradient_norm)):
            super().step(closure)


class Engine:
    """A module in training: accumulation, gradient exchange, clipping, optimizer and schedule.

    Args:
        module: The module to train; only parameters that require gradients are trained and saved.
        settings: ZeRO stage and precision.
        optim: Optimizer and schedule; the learning rate must be given.
        total_steps: Optimizer steps of the whole run, which the schedule spans.
        micro_batch_size: Rows of a forward pass.
        accumulation_steps: Micro-batches of this rank per optimizer step.
        rate_of: The share of the learning rate that a parameter, by its name, is trained with.
    """

    def __init__(
        self,
        module: nn.Module,
        settings: EngineSettings,
        optim: Optim,
        *,
        total_steps: int,
        micro_batch_size: int,
        accumulation_steps: int,
        rate_of: Callable[[str], float] = lambda name: 1.0,
    ) -> None:
        self.module = module.to(own_device())
        self._stage = settings.zero_stage
        if optim.learning_rate is None:
            raise ValueError("the engine needs a learning rate")
        self._base_learning_rate = optim.learning_rate
        self._optimizer = self._build_optimizer(optim, rate_of)
        # The schedule is a function of the step number, so it has no state to save.
        schedule = get_scheduler(
            SCHEDULES[optim.schedule], self._optimizer, round(optim.warmup_fraction * total_steps), total_steps
        )
        self._schedule = schedule.lr_lambdas[0]
        # The loss is already divided by the counts of the global batch: undo DeepSpeed's mean over micro-batches.
        self._scale = accumulation_steps * distributed.world_size()
        self._engine, *_ = deepspeed.initialize(
            model=self.module,
            optimizer=self._optimizer,
            config=self._deepspeed_config(settings, optim, micro_batch_size, accumulation_steps),
        )

    def _build_optimizer(self, optim: Optim, rate_of: Callable[[str], float]) -> ClippedAdamW | torch.optim.AdamW:
        by_options: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
        for name, parameter in self._trained():
            decay = optim.weight_decay if parameter.ndim > 1 else 0.0  # not of biases and layer norms
            by_options[rate_of(name), decay].append(parameter)
        groups = [
            {"params": parameters, "weight_decay": decay, "rate": rate}
            for (rate, decay), parameters in sorted(by_options.items(), key=lambda item: item[0], reverse=True)
        ]
        options: dict[str, Any] = {"lr": 0.0, "betas": (optim.beta1, optim.beta2), "eps": optim.epsilon, "fused": True}
        if self._stage == 0:
            return ClippedAdamW(groups, max_norm=optim.gradient_clipping, **options)
        return torch.optim.AdamW(groups, **options)

    def _deepspeed_config(
        self, settings: EngineSettings, optim: Optim, micro_batch_size: int, accumulation_steps: int
    ) -> dict[str, Any]:
        shipped = REPOSITORY / "configs" / "deepspeed" / f"zero{settings.zero_stage}.json"
        return read_json(shipped) | {
            "train_micro_batch_size_per_gpu": micro_batch_size,
            "gradient_accumulation_steps": accumulation_steps,
            "gradient_clipping": optim.gradient_clipping if settings.zero_stage else 0.0,
            "zero_allow_untested_optimizer": True,
            "torch_autocast": {
                "enabled": in_bf16(settings.precision),
                "dtype": "bfloat16",
                "lower_precision_safe_modules": [],  # those whose gradients would be exchanged in bf16
            },
            "timers": {"throughput": {"enabled": False}},  # it waits for the device twice a micro-batch
            "steps_per_print": 2**62,
        }

    def __call__(self, *arguments: Any) -> Any:
        return self._engine(*arguments)

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of a loss that is already divided by the counts of the global batch.

        A loss that is not finite makes the gradients not finite. The gradient exchange spreads that to every rank, and
        all ranks skip the step, without another synchronization.
        """
        checked = torch.where(torch.isfinite(loss), 1.0, float("nan"))
        self._engine.backward(loss * (checked * self._scale))

    def step(self, number: int) -> StepOutcome:
        """End a micro-batch; after the last one of step `number` (from 1), take the optimizer step. Collective.

        The step is skipped if the gradients are not finite. Before the last micro-batch, the outcome has no norm.
        """
        learning_rate = self._base_learning_rate * self._schedule(number - 1)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate * group["rate"]
        boundary = self._engine.is_gradient_accumulation_boundary()
        self._engine.step()
        if not boundary:
            return StepOutcome(True, 0.0, learning_rate)
        norm = float(self._gradient_norm())
        return StepOutcome(norm not in (float("inf"), -1.0) and norm == norm, norm, learning_rate)

    def _gradient_norm(self) -> float:
        if isinstance(self._optimizer, ClippedAdamW):
            return self._optimizer.gradient_norm
        return self._engine.get_global_grad_norm()

    def save(self) -> tuple[dict[str, Tensors], dict[str, Any]]:
        """Return weights and optimizer moments by parameter name, complete on every rank, and other state. Collective.

        There are no moments before the first applied step.
        """
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self._weights()}
        applied = self._applied_steps()
        moments: Tensors = {}
        if applied:
            if self._stage:
                self._link_moments()
            for name, parameter in self._trained():
                for moment in MOMENTS:
                    moments[f"{moment}/{name}"] = self._read_moment(parameter, moment).cpu().contiguous().clone()
        return {"weights": weights, "optimizer": moments}, {"applied_steps": applied}

    def load(self, tensors: dict[str, Tensors], state: dict[str, Any]) -> None:
        """Restore what `save` returned, on any number of ranks and any ZeRO stage. Collective."""
        self.load_weights(tensors["weights"])
        if not state["applied_steps"]:
            return
        self._create_optimizer_state(state["applied_steps"])
        if self._stage:
            self._link_moments()
        for name, parameter in self._trained():
            for moment in MOMENTS:
                value = tensors["optimizer"][f"{moment}/{name}"].to(parameter.device)
                self._write_moment(parameter, moment, value)

    def load_weights(self, weights: Tensors) -> None:
        """Restore weights alone. Collective."""
        with torch.no_grad():
            for name, tensor in self._weights():
                tensor.copy_(weights[name])
        if self._stage:
            for _, parameter in self._trained():
                safe_set_full_fp32_param(parameter, parameter.detach().clone())

    def _weights(self) -> list[tuple[str, Tensor]]:
        """Return trained parameters and buffers by name, tied weights once under their first name.

        Frozen parameters are not saved; they are loaded from their model again.
        """
        return [*self._trained(), *self.module.named_buffers()]

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]

    def _applied_steps(self) -> int:
        """Return the optimizer's count of steps, which skipped steps do not increase."""
        return max((int(state["step"]) for state in self._optimizer.state.values() if "step" in state), default=0)

    def _create_optimizer_state(self, applied: int) -> None:
        """Create the state that AdamW's first step would create; under ZeRO its parameters are flat slices of many."""
        for group in self._optimizer.param_groups:
            for p in group["params"]:
                self._optimizer.state[p] = {
                    "step": torch.tensor(float(applied), dtype=torch.float32, device=p.device),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }

    def _link_moments(self) -> None:
        """Link slices of the moments to parameters in ZeRO.

        ZeRO does so by itself after the step of the first parameter group, when the others have no moments yet.
        """
        self._engine.optimizer._hp_optimizer_states_linked = False
        self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    def _read_moment(self, parameter: nn.Parameter, moment: str) -> Tensor:
        if self._stage:
            return safe_get_full_optimizer_state(parameter, moment)
        return self._optimizer.state[parameter][moment]

    def _write_moment(self, parameter: nn.Parameter, moment: str, value: Tensor) -> None:
        if self._stage:
            safe_set_full_optimizer_state(parameter, value, moment)
        else:
            self._optimizer.state[parameter][moment].copy_(value)

    def close(self) -> None:
        """Release the memory of the engine."""
        self._engine.destroy()
