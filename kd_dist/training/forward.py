"""The forward pass of training and validation: move a batch to the device, run the teacher, then the student."""

from kd_dist.models.device import own_device
from kd_dist.models.teacher import Teacher
from kd_dist.objectives.base import Outcome
from kd_dist.training.batches import PreparedBatch
from kd_dist.training.engine import Engine
from kd_dist.training.meters import Stopwatch


class Forward:
    """The forward pass of an objective, with the teacher if there is one."""

    def __init__(self, engine: Engine, teacher: Teacher | None) -> None:
        self._engine, self.teacher = engine, teacher

    def __call__(self, batch: PreparedBatch, teacher_time: Stopwatch) -> Outcome:
        """Return the sums and predictions of a batch; `teacher_time` measures the teacher's forward pass."""
        tensors = {name: tensor.to(own_device(), non_blocking=True) for name, tensor in batch.tensors.items()}
        targets = None
        if self.teacher is not None:
            with teacher_time:
                targets = self.teacher(tensors)
        return self._engine(tensors, targets)
