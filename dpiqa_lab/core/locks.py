"""Locks on folders and files across processes, released when their holder ends."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import LabError

_QUIET = 1.0  # seconds of waiting before a message


@contextlib.contextmanager
def folder_lock(folder: Path, wait: bool, what: str, file: str = "") -> Iterator[None]:
    """Context that holds ``folder``, or only the ``file`` of that name in it.

    The operating system releases the lock when the holder ends for any reason.

    Args:
        wait: wait for another holder, with a message; else raise.
        what: description of the folder or file, for messages.

    Raises:
        LabError: another process holds it (named in the message) and ``wait`` is False, or the
            drive supports no locks, as some network drives.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f".{file}." if file else "."
    holder = folder / f"{stem}holder"
    # The fallback of filelock for drives without locks outlasts a killed holder.
    lock = FileLock(folder / f"{stem}lock", fallback_to_soft=False)
    try:
        _acquire(lock, _QUIET if wait else 0, f"{what} {folder / file}")
    except Timeout:
        used = f"{what} {folder / file} is in use by {_who(holder)}"
        if not wait:
            raise LabError(f"{used}. Wait for it to end, stop it, or use another name.") from None
        print(f"{used}: waiting for it to end", flush=True)
        _acquire(lock, -1, f"{what} {folder / file}")
    try:
        with contextlib.suppress(OSError):  # a full disk is reported by later writes
            holder.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _acquire(lock: FileLock, timeout: float, what: str) -> None:
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        raise
    except OSError as error:
        if error.filename is not None:  # the file cannot be opened
            raise
        raise LabError(
            f"{what} cannot be locked ({error}): its drive supports no file locks, as some "
            "network drives, and without them two processes could damage each other's files. Set "
            "DPIQA_HOME to a folder on a local disk for runs and cache, and write scores to one."
        ) from error


def _who(holder: Path) -> str:
    """Description written by the holder; missing if it is just starting or ending."""
    with contextlib.suppress(OSError):
        return holder.read_text(encoding="utf-8") or "another process"
    return "another process"
