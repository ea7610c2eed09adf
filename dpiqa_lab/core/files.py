"""Files that are either whole or absent, and the hashes that name their content."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from .errors import LabError

_BLOCK = 8192  # bytes summed together
_SETTLED = 2 * 10**9  # nanoseconds; file systems count time in steps of up to two seconds
# No space, no more of it for this user, a limit on the size of files.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path beside ``path``; renamed onto it when the block ends without an error.

    The content is flushed to the disk before the rename, so a crash leaves the old file or the new
    one, never a part of one. What a killed writer leaves is called ``.<name>.*.part``.

    Raises:
        LabError: the disk is full.
    """
    path = Path(path)
    with check_disk_space(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            flush(temporary)
            temporary.chmod(0o644)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Return once the disk has all of a file's content."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def check_disk_space(path: Path) -> Iterator[None]:
    """Whatever says within the block that a disk is full becomes a LabError that names ``path``."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        # Of safetensors only the text says which.
        if number not in _FULL and not any(f"os error {n})" in str(error) for n in _FULL):
            raise
        free = ""
        with contextlib.suppress(OSError):
            free = f"; {shutil.disk_usage(path.parent).free / 1e6:.1f} MB are free there"
        raise LabError(
            f"{path} could not be written: the disk is full, or a quota or limit is reached{free}. "
            "Make room and start the same again: what was finished before is kept. Another disk is "
            "used where DPIQA_HOME names a folder on it."
        ) from error


def drop_leftovers(folder: Path, name: str = "") -> None:
    """Delete what writers of ``folder`` (of files whose names begin so) left when they were killed.

    Only for who holds the folder's lock: a writer at work would lose its file.
    """
    for leftover in folder.glob(f".{name}*.part"):
        leftover.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: object) -> None:
    """Write ``value`` as indented JSON atomically; NaN is written as null, as JSON has none."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str) -> dict:
    """The JSON object in ``path``.

    Raises:
        LabError: it holds none, as a file that was damaged.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise LabError(f"{path}: damaged, no readable JSON ({error}).") from error
    if not isinstance(value, dict):
        raise LabError(f"{path}: expected a JSON object, found {type(value).__name__}.")
    return value


def file_hash(path: Path | str) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(path: Path | str) -> list[int] | None:
    """Numbers that change when a file's content may have: what was computed of it is then stale.

    Size, time of change and number (inode) of the file, and where the system has it (not Windows)
    the time at which anything about it changed, which no program can set back. So files that
    change places, and a file written over with its old time, have other stamps, though size and
    time of change stay the same. On Windows a file that is written over in place, with as many
    bytes and its old time set again, keeps its stamp.

    Args:
        path: links are followed.

    Returns:
        A list that JSON keeps as it is; equal lists, one content. ``None`` where nothing can be
        relied on, which must count as changed: no such file, or a drive that numbers no files, as
        some network drives do. Drives that number them anew each time cost a new look as well.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not status.st_ino:
        return None
    # Windows calls the time of creation so: it follows the file too.
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def remembered_hash(path: Path | str) -> str:
    """``file_hash``, computed again in this process only where the file may have changed.

    A file in the hub's cache that is named by its SHA-256 is not read at all.
    """
    place = Path(path).resolve()
    if Path(path).is_symlink() and place.parent.name == "blobs" and len(place.name) == 64:
        return place.name
    numbers = stamp(place)
    if numbers is None or time.time_ns() - max(numbers[1:3]) < _SETTLED:
        return file_hash(place)  # a further change could have the same times
    return _hash_by_stamp(place, tuple(numbers))


@lru_cache(maxsize=4096)
def _hash_by_stamp(path: Path, numbers: tuple[int, ...]) -> str:
    return file_hash(path)


def tensors_hash(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of named tensors: names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


class RememberedHash:
    """``tensors_hash`` of tensors that seldom change, computed again when they do.

    SHA-256 of Stable Diffusion's U-Net takes seconds; what is compared on every call takes a
    twentieth of that. Small tensors are compared by content; large ones by where they lie, by how
    often torch has counted a write to them, and by sums of their bytes, block by block, as writes
    through ``.data`` or numpy are not counted.
    """

    def __init__(self):
        self._known = None, ""

    def __call__(self, tensors: dict[str, torch.Tensor]) -> str:
        """The hash of the tensors as they are now."""
        state = {name: _state(value.detach()) for name, value in tensors.items()}
        if state != self._known[0]:
            self._known = state, tensors_hash(tensors)
        return self._known[1]


def _state(value: torch.Tensor) -> tuple:
    """What changes with a tensor's content, see ``RememberedHash``."""
    data = value.contiguous().reshape(-1).view(torch.uint8)
    kind = value.dtype, tuple(value.shape)
    if len(data) < _BLOCK:
        return *kind, data.cpu().numpy().tobytes()
    data = data.clone() if data.storage_offset() % 8 else data  # as the wide view needs
    even = len(data) // _BLOCK * _BLOCK
    sums = data[:even].view(torch.int64).view(-1, _BLOCK // 8).sum(1).cpu().numpy().tobytes()
    writes = None if value.is_inference() else value._version
    return *kind, value.data_ptr(), writes, sums, data[even:].cpu().numpy().tobytes()


def json_hash(value: object) -> str:
    """SHA-256 of a JSON-serialisable value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
