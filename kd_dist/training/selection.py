"""Choose the step whose weights become the result of a stage, and stop early."""

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Best:
    """The best evaluation so far; it is the same on every rank, since all ranks see the same metrics.

    Attributes:
        metric: The metric to maximize, or `loss` to minimize.
        patience: Evaluations without improvement after which training stops; None to never stop.
        value: The best value so far.
        step: The step of the best value; 0 before the first evaluation.
        evaluations_since: Evaluations since the best.
    """

    metric: str
    patience: int | None
    value: float | None = None
    step: int = 0
    evaluations_since: int = 0

    def update(self, step: int, metrics: dict[str, float]) -> bool:
        """Record an evaluation and return whether it is the best one so far; of equal values, the first is kept.

        One that is not finite never is: everything compares as worse than NaN, so that its step would stay the best.
        """
        value = metrics[f"evaluation/{self.metric}"]
        if not math.isfinite(value) or (self.value is not None and not self._is_better(value, self.value)):
            self.evaluations_since += 1
            return False
        self.value, self.step, self.evaluations_since = value, step, 0
        return True

    def _is_better(self, value: float, than: float) -> bool:
        return value < than if self.metric == "loss" else value > than

    def is_over(self) -> bool:
        """Return whether the patience is exhausted."""
        return self.patience is not None and self.evaluations_since >= self.patience

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {key: value for key, value in asdict(self).items() if key in ("value", "step", "evaluations_since")}

    def load(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.value, self.step, self.evaluations_since = state["value"], state["step"], state["evaluations_since"]
