"""Write files and folders atomically: they appear complete or not at all."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path; the file written there replaces `path` at the end, and is removed on failure."""
    temporary = _hidden_sibling(path)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _hidden_sibling(path: Path) -> Path:
    """Return a new hidden name beside `path`; the process id alone is not unique across nodes and containers."""
    return path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")


def sync(path: Path) -> None:
    """Wait until the content of a file, or the entries of a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write an indented JSON file, atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def short_hash(content: Any, digits: int = 16) -> str:
    """Return the first hexadecimal digits of the SHA-256 of content as JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:digits]


def link(path: Path, target: Path) -> None:
    """Make `path` a symbolic link to `target`, replacing an existing link atomically."""
    temporary = _hidden_sibling(path)
    temporary.symlink_to(target)
    os.replace(temporary, path)


@contextmanager
def temporary_folder(place: Path) -> Iterator[Path]:
    """Yield a new folder beside `place`, so that renaming it to `place` is atomic; remove it at the end."""
    place.parent.mkdir(parents=True, exist_ok=True)
    # Not by mkdtemp, which denies access to others, who may want to read the result: the umask cannot be read without
    # being changed for a moment, for files that threads and child processes create meanwhile.
    folder = place.parent / f".{place.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(path: Path) -> None:
    """Remove what interrupted writers of `path` left; safe only where `path` has one writer at a time."""
    for remains in path.parent.glob(f".{path.name}.tmp*"):
        _remove(remains)


def sweep_below(folder: Path) -> None:
    """Remove what interrupted writers left anywhere below a folder; safe only while nobody writes there."""
    for remains in list(folder.rglob(".*.tmp-*")):
        _remove(remains)


def _remove(path: Path) -> None:
    """Remove a folder with all that is in it, a file, or a link but not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)  # it may have gone with its folder


@contextmanager
def replaced_folder(place: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a folder for scratch files and one for the output; at the end the output replaces `place`.

    On failure `place` is unchanged. What interrupted processes left is removed, so `place` may have only one writer
    at a time.
    """
    sweep(place)
    with temporary_folder(place) as folder:
        work, output = folder / "work", folder / "output"
        work.mkdir()
        output.mkdir()
        yield work, output
        shutil.rmtree(place, ignore_errors=True)
        os.rename(output, place)
