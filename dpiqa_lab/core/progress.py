"""Progress bars on terminals and in open notebooks; silent elsewhere."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_WATCHER: ContextVar[Callable[[str, int, int], None] | None] = ContextVar("watcher", default=None)
_NOTEBOOK_HOSTS = ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG")


def progress_bar(items: Iterable[T], what: str, total: int | None = None) -> Iterable[T]:
    """``items`` with a bar and the remaining time; silent without a terminal or in papermill."""
    watcher = _WATCHER.get()
    if watcher:
        if total is None:
            assert isinstance(items, Sized)
            total = len(items)
        return _report(items, what, total, watcher)
    from tqdm.auto import tqdm

    return tqdm(items, desc=what, total=total, disable=not interactive(), leave=False)


@contextlib.contextmanager
def tracked(watcher: Callable[[str, int, int], None]) -> Iterator[None]:
    """Context in which ``watcher(what, done, total)`` replaces bars: called first and per item.

    Exceptions of the watcher end the work; caches keep finished rows. Applies to this thread.
    """
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


def _report(
    items: Iterable[T], what: str, total: int, watcher: Callable[[str, int, int], None]
) -> Iterator[T]:
    watcher(what, 0, total)
    for done, item in enumerate(items, 1):
        yield item
        watcher(what, done, total)


def interactive() -> bool:
    """Whether output is shown live: a terminal, or a notebook open in a browser or editor.

    Kernels of papermill and nbconvert lack the variables set by these hosts.
    """
    if os.environ.get("RANK", "0") != "0":  # only the first process prints
        return False
    if "ipykernel" in sys.modules:
        return any(name in os.environ for name in _NOTEBOOK_HOSTS)
    return sys.stderr.isatty()
