"""The W&B run of a stage."""

import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from kd_dist.config.sections.training import Tracking
from kd_dist.files import read_json, write_json
from kd_dist.runs.metrics import finite_or_none, is_finite

# W&B flushes its log every 15 s by default, and a killed run would lose all that came after, up to its whole record.
WANDB_FLUSH_SECONDS = 1.0

UNSENT = "unsent"
"""The file in the folder of an online segment that W&B had no time to upload as a whole."""

# All ranks wait for W&B to start; by default it tries for 90 s to reach its server.
WANDB_START_SECONDS = 20.0

# A preempted run has a minute or two to stop; what is not uploaded by then stays on disk, for `wandb sync`.
WANDB_FINISH_SECONDS = 15.0


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
    uploaded. So the id of the run is kept in the stage folder (wandb.json), with a record of what W&B has received.
    W&B's own step is the number of the row, since W&B drops a second row of the same step (training, then
    evaluation); charts use `global_step`.

    Args:
        stage_dir: The folder of the stage, `<job>/<run>/<stage>`.
        settings: W&B project and tags.
        config: The settings of the stage, shown with the run.
        resume: What happens to rows that earlier processes sent: "allow" adds to them, None replaces them.
        without_it: What is left when W&B fails, for messages.
    """

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
        self._id = ""
        self._last_step_sent = -1
        self._rows_sent = 0

    def remember(self, rows: list[dict[str, Any]]) -> None:
        """Find out which steps W&B has received, given the rows of metrics.jsonl that earlier processes wrote."""
        path = self._stage_dir / "wandb.json"
        if path.exists():
            state = read_json(path)
            self._id, self._rows_sent = state["id"], state["rows_sent"]
            self._last_step_sent = state["last_step_sent"]
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
        write_json(self._stage_dir / "wandb.json", state | {"sending": sending})

    def start(self) -> str | None:
        """Start W&B, offline where its server cannot be reached; return a message if it is not as wanted."""
        if is_disabled():
            return None
        import wandb  # imported here because it takes most of a second
        from wandb.sdk.mailbox.mailbox_handle import ServerResponseError

        said = ""
        try:
            try:
                self._run = self._begun(_wandb_mode())
            except wandb.errors.CommError as error:  # no network, no answer, or a key that is refused
                said = f"W&B is offline, `launch/slurm.py --sync {self._stage_dir.parent}` uploads later: {error}"
                wandb.teardown()  # its process holds the id of the run that did not begin
                self._run = self._begun("offline")
            self._run.define_metric("*", step_metric="global_step")
        except (wandb.errors.Error, ServerResponseError, ValidationError, OSError) as error:  # OSError: it died
            self._run = None
            return f"W&B did not start, {self._without_it}: {error}"
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
        """Send a row unless W&B already has its step; return a message if W&B has stopped."""
        # `_last_step_sent` is from earlier processes; this one may send two rows for a step.
        if self._run is None or step <= self._last_step_sent:
            return None
        import wandb

        try:
            # Without commit, W&B holds the row back until the next one, and a kill would lose it.
            self._run.log({"global_step": step, **metrics}, step=self._rows_sent, commit=True)
        except (OSError, wandb.errors.Error) as error:
            self._run = None
            return f"W&B stopped, {self._without_it}: {error}"
        self._rows_sent += 1
        return None

    def finish(self, exit_code: int) -> str | None:
        """End the W&B run; return a message if that fails."""
        run, self._run = self._run, None
        if run is None:
            return None
        from wandb.sdk.mailbox import HandleAbandonedError

        started = time.monotonic()
        try:
            run.finish(exit_code=exit_code)
        except (OSError, HandleAbandonedError) as error:  # the process of W&B died earlier or now
            return f"W&B did not finish cleanly: {error!r}"
        if time.monotonic() - started < WANDB_FINISH_SECONDS:
            return None
        (Path(run.dir).parent / UNSENT).touch()
        return f"W&B could not upload all in time, `launch/slurm.py --sync {self._stage_dir.parent}` uploads the rest"


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
    from wandb.sdk.lib import wbauth

    settings = wandb.setup().settings
    if os.environ.get("WANDB_MODE") or settings.mode != "online":
        return None
    found = wbauth.authenticate_session(host=settings.base_url, source="kd_dist", prompt=False, update_session=False)
    return "offline" if found is None else "online"
