"""Where the lab keeps things: ``data/``, ``runs/`` and ``cache/``, wherever a command is typed."""

import errno
import os
from pathlib import Path

from .errors import LabError, shortened

# The model that scores photographs where none is named: the student that is shipped.
DEFAULT_MODEL = "embedded"
_PACKAGE = Path(__file__).resolve().parents[1]


def home() -> Path:
    """``DPIQA_HOME`` if set, else the repository the package runs from, else the current folder."""
    if os.environ.get("DPIQA_HOME"):
        return Path(os.environ["DPIQA_HOME"]).expanduser().resolve()
    repository = _PACKAGE.parent
    return repository if (repository / "pyproject.toml").is_file() else Path.cwd()


def data_dir() -> Path:
    """Folder with one sub-folder a dataset."""
    return home() / "data"


def runs_dir() -> Path:
    """Folder with one sub-folder a run."""
    return home() / "runs"


def cache_dir() -> Path:
    """Folder for what can be computed again: latents, prompt embeddings, pooled features."""
    return home() / "cache"


def notebook_path(name: str) -> Path:
    """A notebook: a person's own copy in the lab's folder, else the one that is shipped.

    Shipped is in the wheel, or in the repository that the package runs from.

    Raises:
        LabError: there is none of that name.
    """
    folders = (home() / "notebooks", _PACKAGE / "data" / "notebooks", _PACKAGE.parent / "notebooks")
    for folder in folders:
        if (path := folder / f"{name}.ipynb").is_file():
            return path
    places = ", ".join(map(str, dict.fromkeys(folders)))
    raise LabError(f"no notebook {name}.ipynb in {places}: reinstall dpiqa-lab, or put it there.")


def user_path(text: Path | str) -> Path:
    """A path as a person gives it, with ``~`` replaced.

    Raises:
        LabError: no file can be called so, or ``~`` is that of a user unknown here.
    """
    try:
        path = Path(text).expanduser()
        os.stat(path)
    except (RuntimeError, ValueError) as error:
        raise LabError(f"{shortened(text)!r} cannot be a path ({error}).") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise LabError(f"{shortened(text)!r} cannot be a path ({error.strerror}).") from error
    return path


def embedded(name: str) -> Path:
    """A folder shipped with the package, as ``tiny_prior``: in the wheel, else in ``data/``."""
    inside = _PACKAGE / "data" / name
    return inside if inside.is_dir() else _PACKAGE.parent / "data" / name
