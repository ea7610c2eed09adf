"""Size and hash of each image file, read once and remembered until the file changes."""

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

# Seconds of work that a kill may cost; writing the index of 100,000 images takes about one.
_INTERVAL = 10
COLUMNS = ["hash", "height", "width", "error"]


def build_image_index(paths: Sequence[Path], root: Path) -> pd.DataFrame:
    """Decode and hash every file; files whose ``stamp`` is unchanged are not read again.

    Args:
        paths: images under ``root``, the dataset's folder.

    Returns:
        One row per path, in order: hash (SHA-256 of the file), height, width in pixels, and error
        (empty if the image is readable).
    """
    memory = cache_dir() / "inventory" / f"{json_hash(str(root.resolve()))[:16]}.json"
    try:
        known = read_json(memory)
    except (OSError, ValueError):
        known = {}
    # Before reading, so that a file that changes meanwhile has another stamp next time.
    stamps = {str(path): stamp(path) for path in paths}
    new = [key for key, now in stamps.items() if now is None or _stamp_in(known, key) != now]
    pool, written = ThreadPoolExecutor(), time.monotonic()
    try:
        rows = progress_bar(pool.map(_read, map(Path, new)), "reading images", len(new))
        for key, row in zip(new, rows, strict=True):
            known[key] = {"stamp": stamps[key], **row}
            if time.monotonic() - written > _INTERVAL:
                write_json(memory, known)
                written = time.monotonic()
    finally:
        pool.shutdown(cancel_futures=True)  # else an interruption waits for the other files
        if new:
            write_json(memory, known)
    return pd.DataFrame([known[str(path)] for path in paths], columns=COLUMNS)


def _stamp_in(known: dict, key: str) -> list[int] | None:
    row = known.get(key)
    return row.get("stamp") if isinstance(row, dict) else None


def _read(path: Path) -> dict:
    try:
        height, width, _ = read_image(path).shape
        return {"hash": file_hash(path), "height": height, "width": width, "error": ""}
    except LabError as error:
        return {"hash": "", "height": 0, "width": 0, "error": str(error)}
