"""Locate files of the repository, and make paths in settings absolute."""

import glob
import os
import re
from pathlib import Path

from kd_dist.config.job import Job
from kd_dist.config.sections.base import Section
from kd_dist.config.sections.models import Student
from kd_dist.config.stage import WIRE
from kd_dist.errors import CorpusError, UserError, nearest

REPOSITORY = Path(__file__).resolve().parents[2]


def model_config_file(name: str) -> Path:
    """Return the architecture file that `student.config` names: a shipped one by its name, or any path.

    Raises:
        UserError: There is no such file.
    """
    shipped = REPOSITORY / "configs" / "models"
    candidates = [shipped / f"{name.removesuffix('.json')}.json", Path(name), REPOSITORY / name]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    names = [path.stem for path in sorted(shipped.glob("*.json"))]
    raise UserError(f"student.config={name}: no such file{nearest(name, names)}; shipped are: {', '.join(names)}")


def with_absolute_paths(job: Job) -> Job:
    """Return the job with every local path made absolute; names of shipped models and of the hub stay as they are.

    Jobs run from a snapshot of the code, where a relative path would point elsewhere.
    """

    def absolute(_: str, section: Section) -> Section:
        models = ("config",) if isinstance(section, Student) else ()
        section = section.with_changed(section.PATHS, lambda _, path: _absolute(path))
        return section.with_changed(
            section.MODELS + models, lambda _, path: _absolute(path) if Path(path).expanduser().exists() else path
        )

    return job.with_stages(lambda stage: stage.with_sections(absolute))


def _absolute(path: str) -> str:
    return path if path.startswith(WIRE) else str(Path(path).expanduser().absolute())


def matching_paths(pattern: str) -> list[str]:
    """Return the file or folder that a pattern names or, of a glob, those that match it, sorted.

    The suffix of a glob matches in any case: `*.tsv` matches B.TSV too.

    Raises:
        CorpusError: a name that is not UTF-8.
    """
    path = Path(pattern).expanduser()
    if path.exists():
        return [require_utf8(str(path))]
    any_case = re.sub(r"(\.[A-Za-z]+)+$", lambda suffix: "".join(map(_either_case, suffix[0])), str(path))
    found = glob.glob(any_case if glob.has_magic(pattern) else str(path), recursive=True)
    return sorted(map(require_utf8, found))


def require_utf8(path: str) -> str:
    """Return a path that can be written to reports.

    Raises:
        CorpusError: it is not UTF-8, as archives from Windows leave Chinese names.
    """
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"{ascii(path)}: the name is not UTF-8; rename it, or unpack the archive again with `unzip -O GBK`"
        ) from error
    return path


def _either_case(letter: str) -> str:
    return f"[{letter.lower()}{letter.upper()}]" if letter.isalpha() else letter


def python_path(code: Path) -> str:
    """Return the PYTHONPATH of a process that runs this code: before what the user's own may add, as packages."""
    return os.pathsep.join([str(code), *filter(None, [os.environ.get("PYTHONPATH")])])
