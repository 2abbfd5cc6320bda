"""Where libraries keep what they would otherwise compute again."""

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Return the user's folder for our caches, or one in the temporary folder where it cannot be written.

    It exists and belongs to this user alone, unless neither can be made.
    """
    temporary = Path(tempfile.gettempdir()) / f"kd_dist-{os.getuid()}"
    return next((folder for folder in (_users(), temporary) if folder and _is_usable(folder)), temporary)


def keep_caches_in(run_dir: Path) -> None:
    """Keep caches in the run folder where the user's folder cannot be written, as in many containers.

    The libraries of a stage and the processes that it starts look at the same variable.
    """
    users = _users()
    if users is None or not _is_usable(users):
        os.environ["XDG_CACHE_HOME"] = str(run_dir.absolute() / ".cache")


def _users() -> Path | None:
    """Return the folder in the user's cache; None if the user has no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kd_dist"
    except RuntimeError:
        return None


def _is_usable(folder: Path) -> bool:
    """Make a folder if it is not there, and return whether it can be written and belongs to nobody else."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        return False
