"""A copy of the code in the run folder, which the jobs of the run execute."""

import hashlib
import os
import shutil
from pathlib import Path

from kd_dist.config.paths import REPOSITORY
from kd_dist.files import temporary_folder, write_json
from kd_dist.runs.environment import git_state

CODE = ("kd_dist", "jobs", "launch", "configs")


def snapshot(run_dir: Path) -> Path:
    """Copy the code that the run executes, so that a requeued job never runs edited files.

    The copy is named by its content: an unchanged tree is copied once.
    """
    files = sorted(
        path for folder in CODE for path in (REPOSITORY / folder).rglob("*") if path.suffix in (".py", ".json", ".yaml")
    )
    digest = hashlib.sha256()
    for path in files:
        digest.update(str(path.relative_to(REPOSITORY)).encode() + b"\0" + path.read_bytes())
    code = run_dir / "code" / digest.hexdigest()[:12]
    if code.exists():
        return code
    with temporary_folder(code) as temporary:
        for path in files:
            target = temporary / path.relative_to(REPOSITORY)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        write_json(temporary / "GIT_STATE.json", git_state())
        os.rename(temporary, code)
    return code
