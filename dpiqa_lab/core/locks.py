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
def hold(folder: Path, wait: bool, what: str, file: str = "") -> Iterator[None]:
    """Hold ``folder``, or only the ``file`` of that name in it, for the length of the block.

    The operating system drops the lock when its holder ends, however it ends.

    Args:
        wait: wait for another holder, and say for whom; else refuse.
        what: what the folder or file is, for the message.

    Raises:
        LabError: somebody else holds it and ``wait`` is False; the message says who.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f".{file}." if file else "."
    holder = folder / f"{stem}holder"
    lock = FileLock(folder / f"{stem}lock")
    try:
        lock.acquire(timeout=_QUIET if wait else 0)
    except Timeout:
        used = f"{what} {folder / file} is in use by {_who(holder)}"
        if not wait:
            raise LabError(f"{used}. Wait for it to end, stop it, or use another name.") from None
        print(f"{used}: waiting for it to end", flush=True)
        lock.acquire()
    try:
        with contextlib.suppress(OSError):  # a full disk is told of by what needs the space
            holder.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _who(holder: Path) -> str:
    """What the holder wrote of itself; it may be about to write it, or have ended meanwhile."""
    with contextlib.suppress(OSError):
        return holder.read_text(encoding="utf-8") or "another process"
    return "another process"
