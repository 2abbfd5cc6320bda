"""Remember the tries of a stage, to decide whether another one is worth its while.

    <stage>/tries/record.json   how many tries crashed, the step of the last crash, and what was kept by then
                  step          the step that training is at
                  hang  final   notes of a rank on the end of the present try; one that ends without a note has crashed

Whoever starts a stage calls `begin`, and `verdict` when a try has failed. A process that runs one shard has a folder of
its own, `tries_00002`, and begins with the record of the stage.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from kd_dist.errors import explained
from kd_dist.files import read_json, write_json
from kd_dist.runs.completion import unfinished_together
from kd_dist.runs.layout import read_stage


class Verdict(NamedTuple):
    """Whether a stage is to be started again, and what to tell the user."""

    again: bool
    text: str


class Tries:
    """The tries of a stage, or of a shard that is a job of its own."""

    def __init__(self, stage_dir: Path, shard: int | None = None) -> None:
        self._stage_dir = stage_dir
        self._folder = stage_dir / ("tries" if shard is None else f"tries_{shard:05d}")

    def begin(self) -> None:
        """Forget earlier tries of the whole stage, because a user starts it."""
        for folder in self._stage_dir.glob("tries*"):
            shutil.rmtree(folder)
        self._write({"crashes": 0, "step": None, "kept": self._kept()})

    def note(self, end: Literal["hang", "final"]) -> None:
        """Note why the present try ends: a rank hangs, or another try would end in the same way."""
        self._folder.mkdir(exist_ok=True)
        (self._folder / end).touch()

    @contextmanager
    def noting_mistakes(self) -> Iterator[None]:
        """Note that the try is final if the block raises what is no crash but a mistake of the user."""
        try:
            yield
        except BaseException as error:
            if explained(error) is not None:
                self.note("final")
            raise

    def open_step_file(self) -> BinaryIO:
        """Open an empty file for the number of the step that the present try is at."""
        self._folder.mkdir(exist_ok=True)
        return open(self._folder / "step", "wb", buffering=0)

    def forget_step(self) -> None:
        """Forget the step of the try before, as this one begins."""
        (self._folder / "step").unlink(missing_ok=True)

    def crashed_step(self) -> int | None:
        """Return the step at which the last try that failed had crashed."""
        return self._record()["step"]

    def has_progressed(self) -> bool:
        """Return whether anything was kept since this was asked last, or since the first try began."""
        record, kept = self._record(), self._kept()
        self._write(record | {"kept": kept})
        return bool(kept != record["kept"])

    def verdict(self, max_restarts: int) -> Verdict:
        """Decide whether to start the stage again after a try that failed, and count that try.

        Not after a user's mistake, a second crash at the same step, or a crash before anything new was kept. Set-up,
        which keeps nothing, may fail once where the stage has been beyond it before: that was the node or the network.
        """
        record, kept, step, hung = self._record(), self._kept(), self._step(), (self._folder / "hang").exists()
        if any(self._stage_dir.glob(f"{self._folder.name}*/final")):
            return Verdict(False, "")
        crashes, is_same_step = record["crashes"] + 1, record["crashes"] > 0 and step == record["step"]
        where = f"stage {self._stage_dir.name} {'hung' if hung else 'crashed'}" + (f" at step {step:,}" if step else "")
        in_set_up = step is None and kept[0] > 0 and not is_same_step
        if step is not None and is_same_step:
            return Verdict(False, f"{where} for the second time: the log of this try names the rows of that step")
        if not (hung or in_set_up or kept != record["kept"]):
            return Verdict(False, f"{where} and has kept nothing since it was started: it is not started again")
        if crashes > max_restarts:
            return Verdict(
                False, f"{where}: that was the last of {max_restarts} restarts (`max_restarts` of --cluster)"
            )
        self._write({"crashes": crashes, "step": step, "kept": kept})
        for name in ("hang", "step"):
            (self._folder / name).unlink(missing_ok=True)
        return Verdict(True, f"{where}: it is started again, {crashes} of at most {max_restarts} times")

    def _kept(self) -> list[Any]:
        """Return what would change if a try kept more: number and newest name of the checkpoints or blocks.

        Those of stages that are trained together count together.
        """
        pattern = read_stage(self._stage_dir).keeps
        if pattern is None:
            return [0]
        names = [sorted(path.name for path in each.glob(pattern)) for each in unfinished_together(self._stage_dir)]
        return [sum(map(len, names)), *(of_stage[-1] for of_stage in names if of_stage)]

    def _step(self) -> int | None:
        """Return the step that the present try has reached, if it got to one."""
        path = self._folder / "step"
        return int(path.read_bytes() or 0) or None if path.exists() else None

    def _record(self) -> dict[str, Any]:
        for folder in (self._folder, self._stage_dir / "tries"):
            if (folder / "record.json").exists():
                return dict(read_json(folder / "record.json"))
        return {"crashes": 0, "step": None, "kept": [0]}

    def _write(self, record: dict[str, Any]) -> None:
        self._folder.mkdir(exist_ok=True)
        write_json(self._folder / "record.json", record)
