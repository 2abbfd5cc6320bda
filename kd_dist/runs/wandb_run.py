"""The W&B run of a stage."""

import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ValidationError

from kd_dist.config.sections.training import Tracking
from kd_dist.files import read_json, write_json
from kd_dist.runs.aside import Aside
from kd_dist.runs.metrics import finite_or_none, is_finite
from kd_dist.runs.offspring import end_children

# W&B flushes its log every 15 s by default, and a killed run would lose all that came after, up to its whole record.
WANDB_FLUSH_SECONDS = 1.0

UNSENT = "unsent"
"""The file in the folder of an online segment that W&B had no time to upload as a whole."""

# All ranks wait for W&B to start; by default it tries for 90 s to reach its server.
WANDB_START_SECONDS = 20.0

# A preempted run has a minute or two to stop; what is not uploaded by then stays on disk, for `wandb sync`.
WANDB_FINISH_SECONDS = 15.0

WANDB_PROGRAM = "wandb-core"  # ended where it hangs: Python would wait for it at its own end

MOST_WAITING_ROWS = 10_000  # that W&B has not taken yet: some MB

SECONDS_TO_HAND_OVER = 5.0  # the rows that are waiting at the end

SECONDS_TO_WRITE = 10.0  # what it has got by the end; it writes every second

SECONDS_BETWEEN_LOOKS = 60.0  # at the size of W&B's file


@contextmanager
def copies_in(directory: Path) -> Iterator[None]:
    """Make W&B keep its copies of tables in `directory`, so that `wandb sync` needs only the folder of the run.

    By default they are in the home folder until they are uploaded. A WANDB_DATA_DIR that is already set takes
    precedence.
    """
    if "WANDB_DATA_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str(directory)
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]


class WandbRun:
    """One W&B run per stage, across all processes that run it. Failures are returned as text and never stop training.

    Offline, W&B cannot resume: each process writes a segment of its own, and the segments are joined when they are
    uploaded. So the id of the run is kept in the stage folder (wandb.json), with the segments in their order and a
    record of what W&B has received. W&B's own step is the number of the row, since W&B drops a second row of the same
    step (training, then evaluation); charts use `global_step`.

    Args:
        stage_dir: The folder of the stage, `<job>/<run>/<stage>`.
        settings: W&B project and tags.
        config: The settings of the stage, shown with the run.
        resume: What happens to rows that earlier processes sent: "allow" adds to them, None replaces them.
        without_it: What is left when W&B fails, for messages.

    Attributes:
        starts: The number of processes that have run the stage, this one included.
    """

    _live: ClassVar[list["WandbRun"]] = []
    """Those of this process that have begun and not ended: one for each student that is trained."""

    def __init__(
        self,
        stage_dir: Path,
        settings: Tracking,
        config: dict[str, Any],
        *,
        resume: Literal["allow"] | None = "allow",
        without_it: str = "metrics go to metrics.jsonl only",
    ) -> None:
        self._stage_dir = stage_dir
        self._settings = settings
        self._config = config
        self._resume = resume
        self._without_it = without_it
        self._run: Any = None
        self._is_cut_off = False
        self._aside: Aside  # begins with the run
        self._id = ""
        self._last_step_sent = -1
        self._rows_sent = 0
        self._segments: list[str] = []
        self._file: _GrowingFile | None = None
        self.starts = 1

    def remember(self, rows: list[dict[str, Any]]) -> None:
        """Find out which steps W&B has received, given the rows of metrics.jsonl that earlier processes wrote."""
        path = self._stage_dir / "wandb.json"
        if path.exists():
            state = read_json(path)
            self._id, self._rows_sent = state["id"], state["rows_sent"]
            self._last_step_sent = state["last_step_sent"]
            # Earlier versions knew neither of these.
            self._segments, self.starts = state.get("segments", []), state.get("starts", 1) + 1
            sent = [row["global_step"] for row in rows if row["global_step"] > self._last_step_sent]
            if state["sending"] and sent:
                self._last_step_sent = max(sent)
                self._rows_sent += len(sent)
        else:
            self._id = secrets.token_hex(8)
        self._write_state(sending=False)

    def _write_state(self, sending: bool) -> None:
        """Write wandb.json; while `sending`, metrics.jsonl has the rows since, so that not every step writes a file."""
        state = {"id": self._id, "last_step_sent": self._last_step_sent, "rows_sent": self._rows_sent}
        state |= {"starts": self.starts, "segments": self._segments, "sending": sending}
        write_json(self._stage_dir / "wandb.json", state)

    def start(self) -> str | None:
        """Start W&B, offline where its server cannot be reached; return a message if it is not as wanted."""
        if is_disabled():
            return None
        import wandb  # imported here because it takes most of a second
        from wandb.sdk.mailbox.mailbox_handle import ServerResponseError

        said = ""
        try:
            try:
                self._is_cut_off = any(other._is_cut_off for other in WandbRun._live)
                self._run = self._begun("offline" if self._is_cut_off else _wandb_mode())
            except wandb.errors.CommError as error:  # no network, no answer, or a key that is refused
                said = f"W&B is offline, `launch/slurm.py --sync {self._stage_dir.parent}` uploads later: {error}"
                self._is_cut_off = True
                if not WandbRun._live:
                    wandb.teardown()  # its process holds the id of the run that did not begin
                self._run = self._begun("offline")
            self._run.define_metric("*", step_metric="global_step")
        except (wandb.errors.Error, ServerResponseError, ValidationError, OSError) as error:  # OSError: it died
            self._run = None
            return f"W&B did not start, {self._without_it}: {error}"
        WandbRun._live.append(self)
        from wandb.sdk.mailbox import HandleAbandonedError

        self._aside = Aside(OSError, wandb.errors.Error, HandleAbandonedError)
        segment = Path(self._run.dir).parent
        self._file = _GrowingFile(segment / f"run-{self._id}.wandb")
        self._segments.append(segment.name)
        self._write_state(sending=True)
        return said or None

    def _begun(self, mode: Literal["online", "offline"] | None) -> Any:
        """Return a run of W&B that has begun."""
        import wandb

        run_dir = self._stage_dir.parent
        return wandb.init(
            project=self._settings.project,
            group=run_dir.name,
            job_type=self._stage_dir.name,
            name=f"{run_dir.name}/{self._stage_dir.name}",
            tags=[*self._settings.tags, run_dir.parent.name],
            config=self._config,
            dir=self._stage_dir,
            id=self._id,
            resume=self._resume,
            reinit="create_new",  # or the second student's would be the first one's
            mode=mode,
            settings=wandb.Settings(
                x_transaction_log_flush_interval=WANDB_FLUSH_SECONDS,
                init_timeout=WANDB_START_SECONDS,
                finish_timeout=WANDB_FINISH_SECONDS,
                console="off",
                silent=True,
                disable_git=True,  # environment.json has the git state; a remote's address may hold a token
            ),
        )

    def log(self, step: int, metrics: Mapping[str, Any]) -> str | None:
        """Send a row unless W&B already has its step; return a message if W&B has stopped.

        It is handed to W&B aside: training waits neither for that nor for a W&B that hangs.
        """
        # `_last_step_sent` is from earlier processes; this one may send two rows for a step.
        if self._run is None or step <= self._last_step_sent:
            return None
        if self._aside.failure is not None:
            self._run = None
            return self._stopped(self._aside.failure)
        if self._aside.num_waiting() > MOST_WAITING_ROWS:
            self._run = None
            end_children(WANDB_PROGRAM)
            return self._stopped("it takes no rows any more")
        # Without commit, W&B holds the row back until the next one, and a kill would lose it.
        row = {"global_step": step, **metrics}
        self._aside.call(partial(self._run.log, row, step=self._rows_sent, commit=True))
        self._rows_sent += 1
        return self._complaint() if self._file is not None and self._file.is_due() else None

    def _stopped(self, why: Exception | str) -> str:
        return f"W&B stopped, {self._without_it}: {why}"

    def _complaint(self, patience: float = 0.0) -> str | None:
        """Return a message, once, if there is no room for W&B's file, or it did not grow although W&B got something.

        W&B itself says nothing where a disk is full, and does not go on in the same file when there is room again.
        """
        if self._file is None:
            return None
        why = _why_not_written(self._file.path.parent)
        if not why and self._file.has_grown(patience):
            return None
        path, self._file = self._file.path, None
        return f"W&B can no longer write {path} ({why or 'now there is room'}), {self._without_it}"

    def finish(self, exit_code: int) -> str | None:
        """End the W&B run; return a message if that fails."""
        run, self._run = self._run, None
        WandbRun._live = [other for other in WandbRun._live if other is not self]
        if run is None:
            return None
        started = time.monotonic()
        if self._file is not None:
            self._file.look()  # it grows from here on: the end of a run is written as well
        self._aside.call(partial(run.finish, exit_code=exit_code))
        failure: Exception | str | None = "it does not answer"
        if self._aside.end(WANDB_FINISH_SECONDS + SECONDS_TO_HAND_OVER):
            failure = self._aside.failure  # the process of W&B died earlier or now
        else:
            end_children(WANDB_PROGRAM)
        if failure is None and (complaint := self._complaint(patience=SECONDS_TO_WRITE)):
            return complaint
        if failure is None and time.monotonic() - started < WANDB_FINISH_SECONDS:
            return None
        with suppress(OSError):  # W&B may have failed because nothing can be written there
            (Path(run.dir).parent / UNSENT).touch()
        if failure is not None:
            return self._stopped(failure)
        return f"W&B could not upload all in time, `launch/slurm.py --sync {self._stage_dir.parent}` uploads the rest"


class _GrowingFile:
    """A file that is looked at from time to time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size, self._looked_at = 0, time.monotonic()

    def is_due(self) -> bool:
        """Return whether it is time to look again."""
        return time.monotonic() - self._looked_at > SECONDS_BETWEEN_LOOKS

    def look(self) -> int:
        """Note the size of the file, and return that of the last look."""
        before, self._looked_at = self._size, time.monotonic()
        self._size = self.path.stat().st_size if self.path.exists() else 0
        return before

    def has_grown(self, patience: float) -> bool:
        """Return whether the file has grown since the last look, or does so within some seconds."""
        before, deadline = self.look(), time.monotonic() + patience
        while self._size <= before and time.monotonic() < deadline:
            time.sleep(0.02)
            self.look()
        return self._size > before


def _why_not_written(folder: Path) -> str:
    """Return why nothing can be written in a folder, by trying it; empty if something can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(1 << 16))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def unsent_segments(stage_dir: Path) -> list[Path]:
    """Return the folders of what W&B has not received as a whole, in the order in which they were written.

    Their names hold the time, but the clock of the machine of a later try may be behind.
    """
    path = stage_dir / "wandb.json"
    in_order = read_json(path).get("segments", []) if path.exists() else []
    found = [*stage_dir.glob("wandb/offline-run-*"), *(mark.parent for mark in stage_dir.glob(f"wandb/run-*/{UNSENT}"))]
    places = {name: place for place, name in enumerate(in_order)}
    by_time = sorted(found, key=lambda folder: folder.name.removeprefix("offline-"))
    return sorted(by_time, key=lambda folder: places.get(folder.name, -1))  # those that are not noted are the oldest


def results_row(rows: Mapping[str, Mapping[str, Any]], pictures: Sequence[Path]) -> dict[str, Any]:
    """Return the results of an evaluation as one row for W&B: each number, a table of all models, and the pictures."""
    import wandb

    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    cells = [[name, *(finite_or_none(row.get(column)) for column in columns)] for name, row in rows.items()]
    numbers = {f"{name}/{key}": value for name, row in rows.items() for key, value in row.items() if is_finite(value)}
    table = {"evaluation/models": wandb.Table(["model", *columns], cells)}
    return numbers | table | {f"evaluation/{path.stem}": wandb.Image(str(path)) for path in pictures}


def is_disabled() -> bool:
    """Return whether the environment turns W&B off; W&B itself no longer reads WANDB_DISABLED."""
    return os.environ.get("WANDB_MODE") == "disabled" or os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1")


def _wandb_mode() -> Literal["online", "offline"] | None:
    """Return online with credentials, else offline; None where WANDB_MODE or W&B's settings file decides."""
    import wandb

    if os.environ.get("WANDB_MODE") or wandb.setup().settings.mode != "online":
        return None
    return "online" if has_key() else "offline"


def has_key() -> bool:
    """Return whether there are credentials for W&B's server, without asking for any."""
    import wandb
    from wandb.sdk.lib import wbauth

    host = wandb.setup().settings.base_url
    return wbauth.authenticate_session(host=host, source="kd_dist", prompt=False, update_session=False) is not None
