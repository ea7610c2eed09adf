"""Progress bars: on a terminal or in a notebook a person looks at, silent elsewhere."""

import os
import sys
from collections.abc import Iterable

_NOTEBOOK_HOSTS = ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG")


def progress_bar(items: Iterable, what: str, total: int | None = None):
    """``items`` with a bar and the time left; quiet without a terminal, papermill included."""
    from tqdm.auto import tqdm

    return tqdm(items, desc=what, total=total, disable=not interactive(), leave=False)


def interactive() -> bool:
    """Whether a person may be watching: a terminal, or a notebook open in a browser or editor.

    A kernel started by papermill or nbconvert has none of the variables that the hosts set.
    """
    if "ipykernel" in sys.modules:
        return any(name in os.environ for name in _NOTEBOOK_HOSTS)
    return sys.stderr.isatty()
