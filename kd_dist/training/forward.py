"""The forward pass of training and validation: move a batch to the device, run the teacher, then the student."""

from collections.abc import Callable
from functools import partial

from kd_dist.models.device import own_device
from kd_dist.models.teacher import Batch, Encoded
from kd_dist.objectives.base import Outcome
from kd_dist.training.batches import PreparedBatch
from kd_dist.training.meters import Stopwatch


class Kept:
    """The teacher's outputs for the last batch, which serve every student that is trained on it.

    A batch is known by its seed: students that share these outputs have the same rows under the same seeds.
    """

    def __init__(self) -> None:
        self._seed: int | None = None
        self._outputs: Encoded | None = None

    def of(self, seed: int, run: Callable[[], Encoded]) -> Encoded:
        """Return the outputs for the batch of this seed, which `run` gives where they are not those of the last one."""
        if self._outputs is None or seed != self._seed:
            self._outputs = None  # the memory of one batch is enough
            self._seed, self._outputs = seed, run()
        return self._outputs


class Forward:
    """The forward pass of an objective, with the teacher if there is one.

    Args:
        objective: The objective, or the engine that trains it.
        teacher: The teacher that runs on every batch, if any.
        kept: What the objectives of several students share of its outputs; None for a single student.
    """

    def __init__(
        self,
        objective: Callable[[Batch, Encoded | None], Outcome],
        teacher: Callable[[Batch], Encoded] | None,
        kept: Kept | None = None,
    ) -> None:
        self._objective, self.teacher, self._kept = objective, teacher, kept

    def __call__(self, batch: PreparedBatch, teacher_time: Stopwatch) -> Outcome:
        """Return the sums and predictions of a batch; `teacher_time` measures the teacher's forward pass."""
        tensors = {name: tensor.to(own_device(), non_blocking=True) for name, tensor in batch.tensors.items()}
        targets = None
        if self.teacher is not None:
            with teacher_time:
                run = partial(self.teacher, tensors)
                targets = run() if self._kept is None else self._kept.of(batch.seed, run)
        return self._objective(tensors, targets)
