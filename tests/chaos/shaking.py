"""Run a job again and again while it is killed, until it ends; then compare it with a run that nobody disturbed."""

import random
import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.commands import Command, Forked, Launched
from tests.chaos.compare import differences
from tests.chaos.forker import Forker
from tests.chaos.places import Place, place, step_of

WHILE_OPENING = 0.1  # of the kills of forked runs: every start opens the run, which would else get most of them
AT_A_CHANGE = 0.6  # of the kills behind that; the others come at any time
PATIENCE_S = 600
NEVER = float("inf")


@dataclass
class Kill:
    """What was killed, where the run was then, and what that cost.

    Attributes:
        job: The name of the job.
        seed: With which the same kills come again.
        command: What was run.
        ranks: The number of processes that trained.
        target: What was killed.
        place: Where the run was.
        seconds_back: From then until training was at that step again.
    """

    job: str
    seed: str
    command: str
    ranks: int
    target: str
    place: Place
    seconds_back: float | None = None


@dataclass
class Shaker:
    """Shakes one job on a number of ranks.

    Attributes:
        job: Its name.
        settings: With which it runs in seconds.
        folder: Where it runs, always under the same path, so that nothing differs by that.
        forker: What forks `kd_dist/train.py`; None runs the real command.
        ranks: The number of processes that train.
        kills: What was survived so far.
        starts: The number of times that a command was started.
    """

    job: str
    settings: list[str]
    folder: Path
    forker: Forker | None = None
    ranks: int = 1
    kills: list[Kill] = field(default_factory=list)
    starts: int = 0

    def __post_init__(self) -> None:
        self._last: Kill | None = None
        self._seed, self._killed_at = "undisturbed", 0.0
        (self.folder / "log").mkdir(parents=True)
        self._seconds, self._changes = self._undisturbed_run()
        _, self._opening = self._undisturbed_run()  # everything is complete: it opens the run, and that is all
        self.runs.rename(self.undisturbed)

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def undisturbed(self) -> Path:
        """The run that all others are compared with."""
        return self.folder / "undisturbed"

    @property
    def run_dir(self) -> Path:
        return self.runs / self.job / "a"

    def shake(self, seed: str, num_kills: int) -> list[str]:
        """Run the job with up to so many kills; return how it differs from the undisturbed run."""
        chance, before, done, status = random.Random(seed), len(self.kills), 0, 1
        self._last, self._seed = None, seed
        while status:
            # The kills that are left share what is left of the work.
            left = num_kills - (len(self.kills) - before)
            share = min(1.0, max(0.1, 1 - done / max(1, self._changes - self._opening)) * 2 / (left + 1))
            at_change, at_second = self._moment(chance, share) if left else (0, NEVER)
            command = self.start(at_change)
            status = self._attend(command, chance, at_second)
            done += max(0, _changes(command) - self._opening)
            if at_change and status == -signal.SIGKILL:
                self._note_kill(command, "the rank, at a change of a file", command.changes()[1])
        if isinstance(command, Launched):
            command.wait_for_silence()
        return self._compared()

    def _attend(self, command: Command, chance: random.Random, at_second: float) -> int:
        """Kill a command when its time has come, if it has not ended before; return its status at its end."""
        kills = len(self.kills)
        while (status := command.poll()) is None:
            self._note_return()
            if command.seconds() > at_second and len(self.kills) == kills:
                self._note_kill(command, command.kill(chance))
            assert command.seconds() < PATIENCE_S, f"it hangs (seed {self._seed}): {command.output()}"
            time.sleep(0.01)
        expected = status == 0 or len(self.kills) > kills or (status == -signal.SIGKILL and at_second == NEVER)
        assert expected, f"{self.job} does not go on (seed {self._seed}): {command.output()}"
        return status

    def _note_kill(self, command: Command, target: str, change: str = "") -> None:
        where = place(self.run_dir, change)
        self._last, self._killed_at = Kill(self.job, self._seed, command.name, self.ranks, target, where), time.time()
        self.kills.append(self._last)

    def _note_return(self) -> None:
        """Note when training has reached the step again at which it was killed."""
        kill = self._last
        if kill is not None and kill.seconds_back is None and kill.place.step is not None:
            reached, age = step_of(self.run_dir / kill.place.stage)
            passed = time.time() - self._killed_at
            if reached >= kill.place.step and age < passed:
                kill.seconds_back = round(passed, 1)

    def _compared(self) -> list[str]:
        found = differences(self.undisturbed, self.runs)
        if not found:
            shutil.rmtree(self.runs)
        return found

    def _undisturbed_run(self) -> tuple[float, int]:
        """Run the command to its end; return its seconds and the number of its changes to files."""
        command = self.start()
        assert self._attend(command, random.Random(), NEVER) == 0, command.output()
        return command.seconds(), _changes(command)

    def _moment(self, chance: random.Random, share: float) -> tuple[int, float]:
        """Choose the change before which, or the second at which, to kill; the other one never comes."""
        if self.forker and chance.random() < WHILE_OPENING:
            return chance.randint(1, self._opening), NEVER
        if self.forker and chance.random() < AT_A_CHANGE:
            return self._opening + chance.randint(1, max(1, int((self._changes - self._opening) * share))), NEVER
        return 0, chance.uniform(0, self._seconds * share)

    def start(self, die_before: int = 0) -> Command:
        """Start the command, which kills itself before a change to a file if one is named."""
        self.starts += 1
        log = self.folder / "log" / f"{self.starts:03}.txt"
        arguments = ["--job", self.job, "--run-id", "a", *self.settings]
        if self.forker is None:
            return Launched(arguments, self.folder, log, self.ranks)
        return Forked(self.forker, arguments, self.folder, log, self.ranks, die_before)


def _changes(command: Command) -> int:
    return command.changes()[0] if isinstance(command, Forked) else 0
