"""The forward pass of training and validation: move a batch to the device, run the teacher, then the student."""

from collections.abc import Callable

from kd_dist.models.device import own_device
from kd_dist.models.teacher import Batch, Encoded
from kd_dist.objectives.base import Outcome
from kd_dist.training.batches import PreparedBatch
from kd_dist.training.meters import Stopwatch


class Forward:
    """The forward pass of an objective, with the teacher if there is one.

    Args:
        objective: The objective, or the engine that trains it.
        teacher: The teacher that runs on every batch, if any.
    """

    def __init__(
        self, objective: Callable[[Batch, Encoded | None], Outcome], teacher: Callable[[Batch], Encoded] | None
    ) -> None:
        self._objective, self.teacher = objective, teacher

    def __call__(self, batch: PreparedBatch, teacher_time: Stopwatch) -> Outcome:
        """Return the sums and predictions of a batch; `teacher_time` measures the teacher's forward pass."""
        tensors = {name: tensor.to(own_device(), non_blocking=True) for name, tensor in batch.tensors.items()}
        targets = None
        if self.teacher is not None:
            with teacher_time:
                targets = self.teacher(tensors)
        return self._objective(tensors, targets)
