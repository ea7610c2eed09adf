"""Atomic writing of files, and hashes of their content."""

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

_BLOCK = 8192  # bytes per sum
_SETTLED = 2 * 10**9  # nanoseconds; file systems have time steps of up to two seconds
# Disk full, quota reached, file too large.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed to it when the context ends without an error.

    The content is flushed to the disk first, so a crash leaves either the old or the new file. A
    killed writer leaves a file named ``.<name>.*.part``.

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
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Return when a file's content is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def check_disk_space(path: Path) -> Iterator[None]:
    """Context that turns errors of a full disk into a LabError naming ``path``."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        # Errors of safetensors have the number in their text only.
        if number not in _FULL and not any(f"os error {n})" in str(error) for n in _FULL):
            raise
        free = ""
        with contextlib.suppress(OSError):
            free = f"; {shutil.disk_usage(path.parent).free / 1e6:.1f} MB are free there"
        raise LabError(
            f"{path} could not be written: the disk is full, or a quota or limit is reached{free}. "
            "Free some space and start again: finished work is kept. Set DPIQA_HOME to a folder on "
            "another disk to use that."
        ) from error


def drop_leftovers(folder: Path, name: str = "") -> None:
    """Delete temporary files of killed writers in ``folder``, of names beginning with ``name``.

    The caller must hold the folder's lock: an active writer would lose its file.
    """
    for leftover in folder.glob(f".{name}*.part"):
        leftover.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: object) -> None:
    """Write ``value`` as indented JSON atomically; NaN is written as null."""
    write_text(path, json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str) -> dict:
    """The JSON object in ``path``.

    Raises:
        LabError: the file is damaged or not a JSON object.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise LabError(f"{path}: damaged, not readable JSON ({error}).") from error
    if not isinstance(value, dict):
        raise LabError(f"{path}: expected a JSON object, found {type(value).__name__}.")
    return value


def file_hash(path: Path | str) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(path: Path | str) -> list[int] | None:
    """Numbers that change when a file's content may have changed.

    Size, modification time and inode, and except on Windows the change time (ctime), which programs
    cannot set. So files that are exchanged, or overwritten with the old modification time restored,
    have other stamps. On Windows a file overwritten in place, with the same size and its old time
    restored, keeps its stamp.

    Args:
        path: links are followed.

    Returns:
        A JSON-serialisable list; equal lists mean equal content. ``None``, which must count as
        changed, if there is no such file or its drive has no inodes, as some network drives.
    """
    try:
        status = Path(path).stat()
    except OSError:
        return None
    if not status.st_ino:
        return None
    # On Windows ctime is the time of creation, which also belongs to the file.
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def remembered_hash(path: Path | str) -> str:
    """``file_hash``, cached in this process while the ``stamp`` is unchanged.

    A file in the hub's cache that is named by its SHA-256 is not read.
    """
    target = Path(path).resolve()
    if Path(path).is_symlink() and target.parent.name == "blobs" and len(target.name) == 64:
        return target.name
    numbers = stamp(target)
    if numbers is None or time.time_ns() - max(numbers[1:3]) < _SETTLED:
        return file_hash(target)  # a further change could have the same times
    return _hash_by_stamp(target, tuple(numbers))


@lru_cache(maxsize=4096)
def _hash_by_stamp(path: Path, _stamp: tuple[int, ...]) -> str:
    return file_hash(path)


def tensors_hash(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of named tensors: names, types, shapes and bytes, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class RememberedHash:
    """``tensors_hash`` of tensors that seldom change, computed again when they do.

    SHA-256 of Stable Diffusion's U-Net takes seconds, the comparison on every call a twentieth of
    that. Small tensors are compared by content; large ones by address, by torch's counter of
    writes, and by sums over blocks of bytes, as writes through ``.data`` or numpy are not counted.
    """

    def __init__(self) -> None:
        self._known: tuple[dict | None, str] = None, ""

    def __call__(self, tensors: dict[str, torch.Tensor]) -> str:
        """The hash of the tensors as they are now."""
        state = {name: _state(value.detach()) for name, value in tensors.items()}
        if state != self._known[0]:
            self._known = state, tensors_hash(tensors)
        return self._known[1]


def _state(value: torch.Tensor) -> tuple:
    """A value that changes with a tensor's content, see ``RememberedHash``."""
    data = value.contiguous().reshape(-1).view(torch.uint8)
    kind = value.dtype, tuple(value.shape)
    if len(data) < _BLOCK:
        return *kind, data.cpu().numpy().tobytes()
    data = data.clone() if data.storage_offset() % 8 else data  # for the view as int64
    even = len(data) // _BLOCK * _BLOCK
    sums = data[:even].view(torch.int64).view(-1, _BLOCK // 8).sum(1).cpu().numpy().tobytes()
    writes = None if value.is_inference() else value._version  # noqa: SLF001 - no public counter
    return *kind, value.data_ptr(), writes, sums, data[even:].cpu().numpy().tobytes()


def json_hash(value: object) -> str:
    """SHA-256 of a JSON-serialisable value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _plain(value: object) -> object:
    """``value`` in types of JSON, with ``None`` for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
