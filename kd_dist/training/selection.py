"""Which step's weights become the result of a stage, and when looking further is useless."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Best:
    """The best evaluation so far. Every rank sees the same metrics and so has the same one."""

    metric: str
    patience: int | None
    value: float | None = None
    step: int = 0
    evaluations_since: int = 0

    def update(self, step: int, metrics: dict[str, float]) -> bool:
        """Take note of an evaluation; returns whether it is the best one yet."""
        value = metrics[f"evaluation/{self.metric}"]
        if self.value is not None and not self._is_better(value, self.value):
            self.evaluations_since += 1
            return False
        self.value, self.step, self.evaluations_since = value, step, 0
        return True

    def _is_better(self, value: float, than: float) -> bool:
        return value < than if self.metric == "loss" else value > than

    def is_over(self) -> bool:
        """Whether the patience is exhausted."""
        return self.patience is not None and self.evaluations_since >= self.patience

    def state(self) -> dict[str, Any]:
        """What belongs into a checkpoint."""
        return {key: value for key, value in asdict(self).items() if key in ("value", "step", "evaluations_since")}

    def load(self, state: dict[str, Any]) -> None:
        self.value, self.step, self.evaluations_since = state["value"], state["step"], state["evaluations_since"]
