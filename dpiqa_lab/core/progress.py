"""Progress bars: on a terminal or in a notebook a person looks at, silent elsewhere."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar

_WATCHER: ContextVar[Callable[[str, int, int], None] | None] = ContextVar("watcher", default=None)
_NOTEBOOK_HOSTS = ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG")


def progress_bar(items: Iterable, what: str, total: int | None = None):
    """``items`` with a bar and the time left; quiet without a terminal, papermill included."""
    watcher = _WATCHER.get()
    if watcher:
        return _reported(items, what, total if total is not None else len(items), watcher)
    from tqdm.auto import tqdm

    return tqdm(items, desc=what, total=total, disable=not interactive(), leave=False)


@contextlib.contextmanager
def tracked(watcher: Callable[[str, int, int], None]) -> Iterator[None]:
    """In place of bars, ``watcher(what, done, total)`` is told of every item, before the first too.

    What it raises ends the work; caches keep what was done by then. Holds for this thread.
    """
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


def _reported(items, what, total, watcher):
    watcher(what, 0, total)
    for done, item in enumerate(items, 1):
        yield item
        watcher(what, done, total)


def interactive() -> bool:
    """Whether a person may be watching: a terminal, or a notebook open in a browser or editor.

    A kernel started by papermill or nbconvert has none of the variables that the hosts set.
    """
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
        return False
    if "ipykernel" in sys.modules:
        return any(name in os.environ for name in _NOTEBOOK_HOSTS)
    return sys.stderr.isatty()
