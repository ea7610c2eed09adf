"""One worker at a time on a folder or a file, across processes; a dead one's lock frees itself."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import LabError

_QUIET = 1.0  # seconds waited before it is said


@contextlib.contextmanager
def folder_lock(folder: Path, wait: bool, what: str, file: str = "") -> Iterator[None]:
    """Hold ``folder``, or only the ``file`` of that name in it, for the length of the block.

    The operating system drops the lock when its holder ends, however it ends.

    Args:
        wait: wait for another holder, and say for whom; else refuse.
        what: what the folder or file is, for the message.

    Raises:
        LabError: somebody else holds it and ``wait`` is False; the message says who. Or the drive
            offers no locks, as some network drives; there is no way on without them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f".{file}." if file else "."
    holder = folder / f"{stem}holder"
    # What filelock has in place of a missing lock outlasts a killed holder.
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
        with contextlib.suppress(OSError):  # a full disk is told of by what needs the space
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
        if error.filename is not None:  # a file that cannot be opened, and no lock
            raise
        raise LabError(
            f"{what} cannot be locked ({error}): its drive offers no file locks, as some network "
            "drives, and without them two processes could damage each other's files. Set "
            "DPIQA_HOME to a folder on a local disk for runs and cache, and write scores to one."
        ) from error


def _who(holder: Path) -> str:
    """What the holder wrote of itself; it may be about to write it, or have ended meanwhile."""
    with contextlib.suppress(OSError):
        return holder.read_text(encoding="utf-8") or "another process"
    return "another process"
