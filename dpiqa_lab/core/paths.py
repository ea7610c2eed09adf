"""Folders of the lab: ``data/``, ``runs/`` and ``cache/``."""

import errno
import os
from pathlib import Path

from .errors import LabError, shortened

# The default model for scores: the student included in the package.
DEFAULT_MODEL = "embedded"
_PACKAGE = Path(__file__).resolve().parents[1]


def home() -> Path:
    """``DPIQA_HOME`` if set, else the repository of the package, else the current folder."""
    if os.environ.get("DPIQA_HOME"):
        return Path(os.environ["DPIQA_HOME"]).expanduser().resolve()
    repository = _PACKAGE.parent
    return repository if (repository / "pyproject.toml").is_file() else Path.cwd()


def data_dir() -> Path:
    """Folder with one sub-folder per dataset."""
    return home() / "data"


def runs_dir() -> Path:
    """Folder with one sub-folder per run."""
    return home() / "runs"


def cache_dir() -> Path:
    """Folder of reproducible data: latents, prompt embeddings, pooled features."""
    return home() / "cache"


def notebook_path(name: str) -> Path:
    """A notebook: a copy in the lab's folder, else the one in the wheel or repository.

    Raises:
        LabError: no notebook of that name.
    """
    folders = (home() / "notebooks", _PACKAGE / "data" / "notebooks", _PACKAGE.parent / "notebooks")
    for folder in folders:
        if (path := folder / f"{name}.ipynb").is_file():
            return path
    places = ", ".join(map(str, dict.fromkeys(folders)))
    raise LabError(f"no notebook {name}.ipynb in {places}: reinstall dpiqa-lab, or add it there.")


def user_path(text: Path | str) -> Path:
    """A path given by a user, with ``~`` replaced.

    Raises:
        LabError: an impossible file name, or ``~`` of an unknown user.
    """
    try:
        path = Path(text).expanduser()
        path.stat()
    except (RuntimeError, ValueError) as error:
        raise LabError(f"{shortened(text)!r} cannot be a path ({error}).") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise LabError(f"{shortened(text)!r} cannot be a path ({error.strerror}).") from error
    return path


def embedded(name: str) -> Path:
    """A folder included in the package, such as ``tiny_prior``: in the wheel or in ``data/``."""
    inside = _PACKAGE / "data" / name
    return inside if inside.is_dir() else _PACKAGE.parent / "data" / name
