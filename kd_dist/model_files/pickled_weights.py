"""Read the names and shapes in a file that `torch.save` wrote, without torch and without running what it holds."""

import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, NamedTuple

from kd_dist.errors import UserError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # what files of torch before 1.6 begin with
LEGACY_HEADERS = 3  # magic number, protocol version and facts of the machine, each a pickle of its own

# Where a training loop keeps the weights in a checkpoint of its own.
CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model", "module", "net")


class PickledTensor(NamedTuple):
    """A tensor in the file, of which only the shape was read."""

    shape: tuple[int, ...]


class _Unknown:
    """A stand-in for every other object in the file; takes whatever a pickle does to it and does nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass


def _tensor(storage: Any, offset: int, shape: tuple[int, ...], *facts: Any) -> PickledTensor:
    return PickledTensor(tuple(shape))


def _parameter(data: Any, *facts: Any) -> Any:
    return data


def _of_a_subclass(rebuild: Any, _kind: Any, arguments: tuple[Any, ...], *_state: Any) -> Any:
    return rebuild(*arguments) if rebuild in (_tensor, _parameter) else _Unknown()


class _ShapeReader(pickle.Unpickler):
    """Build no object of the file but dicts, lists, numbers and the shapes of tensors."""

    KNOWN = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_tensor_v3"): _tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
        ("torch._tensor", "_rebuild_from_type_v2"): _of_a_subclass,
    }

    def find_class(self, module: str, name: str) -> Any:
        return self.KNOWN.get((module, name), _Unknown)

    def persistent_load(self, pid: Any) -> None:
        return None


# What reading a damaged pickle or archive raises.
DAMAGED = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, zlib.error, EOFError, OSError),
    *(ValueError, TypeError, AttributeError, IndexError, KeyError, ImportError, OverflowError, AssertionError),
    *(RuntimeError, MemoryError),  # an encrypted archive; a length that is nonsense
)


def pickled_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a state dict by name.

    Raises:
        UserError: The file is damaged, or holds something else than a state dict.
    """
    try:
        content = _content(file)
    except DAMAGED as error:
        raise UserError(
            f"{file}: damaged, or no file of torch.save ({type(error).__name__}: {error}); copy it again"
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            f"{file} holds a whole pickled model, whose loading would run its code; where it comes from, save its "
            "weights alone: torch.save(model.state_dict(), 'pytorch_model.bin')"
        )
    shapes = _shapes(content)
    if not shapes:
        for key in (key for key in CHECKPOINT_KEYS if isinstance(content.get(key), dict) and _shapes(content[key])):
            raise UserError(
                f"{file} is the checkpoint of a training, with the weights under {key!r}; save them alone: "
                f"torch.save(torch.load('{file}', map_location='cpu')['{key}'], 'pytorch_model.bin')"
            )
        raise UserError(f"{file} holds no tensors, only {', '.join(map(str, list(content)[:3])) or 'an empty dict'}")
    return shapes


def _shapes(content: dict[Any, Any]) -> dict[str, tuple[int, ...]]:
    return {str(name): value.shape for name, value in content.items() if isinstance(value, PickledTensor)}


def _content(file: Path) -> Any:
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            name = next((name for name in archive.namelist() if name.split("/", 1)[-1] == "data.pkl"), None)
            if name is None:
                raise ValueError("no data.pkl in it")
            with archive.open(name) as stream:
                return _ShapeReader(stream).load()
    with open(file, "rb") as stream:
        return _legacy_content(stream)


def _legacy_content(stream: IO[bytes]) -> Any:
    if _ShapeReader(stream).load() != LEGACY_MAGIC:
        raise ValueError("another magic number")
    for _ in range(LEGACY_HEADERS - 1):
        _ShapeReader(stream).load()
    return _ShapeReader(stream).load()
