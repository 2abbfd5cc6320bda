"""Record the package versions and the state of the code that a run was made with."""

import importlib.metadata
import platform
import subprocess
from typing import Any

from kd_dist.config.paths import REPOSITORY
from kd_dist.files import read_json

PACKAGES = (
    "torch",
    "transformers",
    "deepspeed",
    "datasets",
    "pyarrow",
    "pydantic",
    "submitit",
    "wandb",
    "jieba",
    "numpy",
)


def environment() -> dict[str, Any]:
    """Return package versions and the state of the code; nothing else, so that no secret is ever written."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": git_state(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_state() -> dict[str, Any]:
    """Return the commit, and whether tracked files differ from it.

    The snapshot of the code that a run uses has no git folder; it carries the state in GIT_STATE.json.
    """
    carried = REPOSITORY / "GIT_STATE.json"
    if carried.exists():
        return read_json(carried)

    def git(*arguments: str) -> str | None:
        try:
            result = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return result.stdout.strip()

    return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain", "--untracked-files=no"))}
