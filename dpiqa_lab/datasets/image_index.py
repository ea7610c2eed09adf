"""What is in each photograph's file: looked at once, remembered until the file changes."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from ..core.errors import LabError
from ..core.files import file_hash, json_hash, read_json, stamp, write_json
from ..core.paths import cache_dir
from ..core.progress import progress_bar
from .images import read_image

# Seconds of looks that a kill may cost; the memory of 100,000 photographs takes about one to write.
_STEP = 10
COLUMNS = ["hash", "height", "width", "error"]


def build_image_index(paths: Sequence[Path], root: Path) -> pd.DataFrame:
    """Every file decoded in full and hashed.

    A file whose ``stamp`` is as remembered is not read again. An interrupted look is remembered up
    to where it came, a killed one up to some seconds before.

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
    # Before the looks: what changes while it is looked at has another stamp the next time.
    stamps = {str(path): stamp(path) for path in paths}
    new = [key for key, now in stamps.items() if now is None or _stamp_in(known, key) != now]
    pool, written = ThreadPoolExecutor(), time.monotonic()
    try:
        looks = progress_bar(pool.map(_look, map(Path, new)), "reading photographs", len(new))
        for key, look in zip(new, looks, strict=True):
            known[key] = {"stamp": stamps[key], **look}
            if time.monotonic() - written > _STEP:
                write_json(memory, known)
                written = time.monotonic()
    finally:
        pool.shutdown(cancel_futures=True)  # else an interruption waits for all the others
        if new:
            write_json(memory, known)
    return pd.DataFrame([known[str(path)] for path in paths], columns=COLUMNS)


def _stamp_in(known: dict, key: str) -> list[int] | None:
    row = known.get(key)
    return row.get("stamp") if isinstance(row, dict) else None


def _look(path: Path) -> dict:
    try:
        height, width, _ = read_image(path).shape
        return {"hash": file_hash(path), "height": height, "width": width, "error": ""}
    except LabError as error:
        return {"hash": "", "height": 0, "width": 0, "error": str(error)}
