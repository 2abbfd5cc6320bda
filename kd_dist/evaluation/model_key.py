"""The key of a result: model, seed and speed."""

from dataclasses import asdict, dataclass
from typing import Any, Self

from kd_dist.config.seeds import seeded_name, split_seed

OWN_THRESHOLDS = "own thresholds"
"""How a model with early exit is described where no speed is given: with the thresholds of its export."""


@dataclass(frozen=True)
class ModelKey:
    """A model, the seed it was trained with where a job has several, and its speed where early exit is given one."""

    model: str
    seed: int | None = None
    speed: float | None = None

    @classmethod
    def of_name(cls, name: str) -> Self:
        """Return the key of a model as `evaluate.models` names it: `student`, or `student@43` for another seed."""
        return cls(*split_seed(name))

    def __str__(self) -> str:
        """Return the name to display, such as `student@43 at speed 0.5`."""
        name = self.model if self.seed is None else seeded_name(self.model, self.seed)
        return name if self.speed is None else f"{name} at speed {self.speed:g}"

    def fields(self) -> dict[str, Any]:
        """Return the fields of a result row: `model`, and `seed` and `speed` where there is one."""
        return {name: value for name, value in asdict(self).items() if value is not None}
