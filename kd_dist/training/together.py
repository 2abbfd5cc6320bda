"""Train one student, or several in step, so that one pass of the teacher over a micro-batch serves them all.

The student that is furthest behind goes on. So students that resume from checkpoints of different steps meet again, and
whoever is at a micro-batch finds the teacher's outputs that another one has left there (`forward.Kept`). Nothing else
is shared: each has the weights, metrics and checkpoints that it would have alone.
"""

from collections.abc import Iterator, Sequence

from kd_dist.errors import Preempted
from kd_dist.training.preemption import Preemption
from kd_dist.training.trainer import Trainer
from kd_dist.training.watchdog import Watchdog


def train(trainers: Sequence[Trainer], preemption: Preemption, watchdog: Watchdog) -> None:
    """Train until the last one has ended, from their newest checkpoints. Collective.

    Args:
        trainers: Of the students, which have the same rows in each step.
        preemption: Where requests to stop come from.
        watchdog: The one that the trainers know.

    Raises:
        Preempted: A signal asked to stop; the state of each is saved.
        RunError: Too many skipped steps in a row, or a checkpoint could not be written.
    """
    for trainer in trainers:
        trainer.resume()
    with watchdog:
        for _ in steps(trainers):
            if signal_number := preemption.agreed():
                with watchdog.pause():
                    for trainer in trainers:
                        trainer.save()
                raise Preempted(min(trainer.step for trainer in trainers), signal_number)
    for trainer in trainers:
        trainer.finish()


def steps(trainers: Sequence[Trainer]) -> Iterator[None]:
    """Train from where each has resumed to the end of the last, and yield when none is within a step. Collective."""
    passes = {trainer: trainer.passes() for trainer in trainers}
    places = {trainer: (trainer.step, 0) for trainer in trainers}
    while places:
        behind = min(places, key=lambda trainer: places[trainer])
        place = next(passes[behind], None)
        if place is None:
            del places[behind]
            continue
        places[behind] = place
        if not any(micro_batches for _, micro_batches in places.values()):
            yield
