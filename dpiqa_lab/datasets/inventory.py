"""What is in each photograph's file: looked at once, remembered until the file changes."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from ..core.errors import LabError
from ..core.files import file_hash, json_hash, read_json, write_json
from ..core.paths import cache_dir
from ..core.progress import progress_bar
from .images import read_image

COLUMNS = ["hash", "height", "width", "error"]


def take_inventory(paths: Sequence[Path], root: Path) -> pd.DataFrame:
    """Every file decoded in full and hashed.

    A file whose size and time of change are as remembered is not read again.

    Args:
        paths: photographs under ``root``, the dataset's folder.

    Returns:
        One row a path, in order: hash (SHA-256 of the file), height, width in pixels, and error
        (empty where the photograph is readable).
    """
    memory = cache_dir() / "inventory" / f"{json_hash(str(root.resolve()))[:16]}.json"
    try:
        known = read_json(memory)
    except (OSError, ValueError):
        known = {}
    stamps = [_stamp(path) for path in paths]
    keys = [str(path) for path in paths]
    new = [i for i, key in enumerate(keys) if key not in known or known[key]["stamp"] != stamps[i]]
    with ThreadPoolExecutor() as pool:
        looks = pool.map(_look, [paths[i] for i in new])
        for i, look in zip(new, progress_bar(looks, "reading photographs", len(new)), strict=True):
            known[keys[i]] = {"stamp": stamps[i], **look}
    if new:
        write_json(memory, known)
    return pd.DataFrame([known[key] for key in keys], columns=COLUMNS)


def _stamp(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _look(path: Path) -> dict:
    try:
        height, width, _ = read_image(path).shape
        return {"hash": file_hash(path), "height": height, "width": width, "error": ""}
    except LabError as error:
        return {"hash": "", "height": 0, "width": 0, "error": str(error)}
