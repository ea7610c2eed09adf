"""One worker at a time on a folder or a file, across processes; a dead one's lock frees itself."""

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import LabError


@contextlib.contextmanager
def hold(folder: Path, wait: bool, what: str, file: str = "") -> Iterator[None]:
    """Hold ``folder``, or only the ``file`` of that name in it, for the length of the block.

    The operating system drops the lock when its holder ends, however it ends.

    Args:
        wait: wait for another holder, else refuse.
        what: what the folder or file is, for the message.

    Raises:
        LabError: somebody else holds it and ``wait`` is False; the message says who.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f".{file}." if file else "."
    holder = folder / f"{stem}holder"
    lock = FileLock(folder / f"{stem}lock")
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        who = holder.read_text(encoding="utf-8") if holder.exists() else "another process"
        raise LabError(
            f"{what} {folder / file} is in use by {who}. Wait for it to end, stop it, or use "
            "another name."
        ) from None
    try:
        holder.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        lock.release()
