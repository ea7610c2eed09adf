"""Cache on disk of computed rows: latents, prompt embeddings, features; one row per item.

An entry is a folder ``cache/<kind>/<hash of its key>/``. The key holds everything that changes the
numbers, except the item itself, whose id each row has (for an image, the hash of its file). Rows
are written in chunks as they are computed, so an interruption loses one chunk at most.

Rows are computed in float32 and not compiled, see ``device.exact``, regardless of the caller's
context. Computations in another precision set it themselves and record it in the key.
"""

import contextlib
import json
import time
import uuid
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .device import exact
from .files import atomic_path, drop_leftovers, json_hash, read_json, tensors_hash, write_json
from .locks import folder_lock
from .paths import cache_dir

K = TypeVar("K")
Rows = dict[str, torch.Tensor]
Prepare = Callable[[list[list[int]]], Iterable]
# Entries of other formats are ignored: rows of format 1 may have a lower precision than recorded.
_FORMAT = 2
# Errors of reading a damaged file.
_DAMAGED = (SafetensorError, OSError, KeyError, TypeError, ValueError)


class Stored(NamedTuple):
    """Rows by file, and the file and row of each item."""

    parts: list[Rows]
    places: dict[str, tuple[int, int]]


class RowCache:
    """Named tensors with one row per item, under one key.

    Args:
        kind: of the rows, such as "latents"; a sub-folder of the cache.
        key: JSON-serialisable; everything that changes the numbers except the items.
        root: folder of the cache; ``None`` is the lab's own.
    """

    part_seconds = 30.0

    def __init__(self, kind: str, key: dict, root: Path | str | None = None) -> None:
        self.folder = Path(root or cache_dir()) / kind / json_hash([_FORMAT, key])[:16]
        self.key = key

    def rows(
        self,
        ids: Sequence[str],
        compute: Callable[[Any], Rows],
        batch_size: int = 16,
        prepare: Prepare = iter,
    ) -> Rows:
        """Rows for ``ids``, in their order; missing ones are computed and stored.

        Args:
            ids: one per item; equal ids are the same content.
            compute: from a batch of positions in ``ids``, as prepared, to their rows.
            prepare: from the batches of missing positions to the arguments of ``compute``, one per
                batch: a progress bar around them, or a loader that reads ahead.

        Returns:
            Tensors of shape (len(ids), ...).
        """
        one = shared_rows({"": self}, ids, lambda item: {"": compute(item)}, batch_size, prepare)
        return one[""]

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of ``ids`` that are not in ``held``."""
        held = self.held()
        return [item for item in dict.fromkeys(ids) if item not in held]

    def held(self) -> set[str]:
        """Stored ids, from the files' headers only; contents are checked when rows are read."""
        found = set()
        for path in self.folder.glob("*.safetensors"):
            damaged = contextlib.suppress(*_DAMAGED)
            with damaged, safe_open(path, "pt") as file:
                found.update(json.loads(file.metadata()["ids"]))
        return found

    def write(self, ids: list[str], pending: list[Rows]) -> None:
        """Write rows of ``ids``, given batch by batch, as one file."""
        rows = {name: torch.cat([batch[name] for batch in pending]) for name in pending[0]}
        rows = {name: value.contiguous() for name, value in rows.items()}
        metadata = {"ids": json.dumps(ids), "sha256": tensors_hash(rows)}
        with atomic_path(self.folder / f"{uuid.uuid4().hex[:12]}.safetensors") as temporary:
            save_file(rows, temporary, metadata)

    def read(self) -> Stored:
        """All stored rows; damaged files are dropped with a warning."""
        read = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                read[path] = _read_file(path)
            except _DAMAGED as error:
                _drop(path, error)
        kinds = {
            tuple((name, value.dtype, value.shape[1:]) for name, value in sorted(rows.items()))
            for _, rows in read.values()
        }
        if len(kinds) > 1:  # it is unknown which of them is right
            for path in read:
                _drop(path, "the shapes of its rows differ from another file's")
            read = {}
        found = Stored([], {})
        for ids, rows in read.values():
            found.places.update({item: (len(found.parts), i) for i, item in enumerate(ids)})
            found.parts.append(rows)
        return found


def _read_file(path: Path) -> tuple[list[str], Rows]:
    """Ids and rows of a file; raises one of ``_DAMAGED`` if it was altered."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        rows = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if tensors_hash(rows) != metadata["sha256"]:
        raise SafetensorError("checksum differs")
    ids = json.loads(metadata["ids"])
    if not rows or any(len(value) != len(ids) for value in rows.values()):
        raise SafetensorError("numbers of rows and ids differ")
    return [str(item) for item in ids], rows


def _drop(path: Path, why: object) -> None:
    warnings.warn(
        f"damaged cache file {path} ({why}): deleted, its rows are computed again.", stacklevel=4
    )
    path.unlink(missing_ok=True)


@exact()
def shared_rows(
    caches: dict[K, RowCache],
    ids: Sequence[str],
    compute: Callable[[Any], dict[K, Rows]],
    batch_size: int = 16,
    prepare: Prepare = iter,
) -> dict[K, Rows]:
    """Rows of several entries that are computed together, by the entries' names.

    As ``RowCache.rows``; an item is computed if any entry lacks it, and all entries are filled.
    """
    if not _missing([cache.held() for cache in caches.values()], ids):
        stored = {name: cache.read() for name, cache in caches.items()}
        if not _missing([entry.places for entry in stored.values()], ids):
            return {name: _picked(entry, ids) for name, entry in stored.items()}
    with contextlib.ExitStack() as stack:
        # In the same order in all processes, which could otherwise wait for each other.
        for cache in sorted(caches.values(), key=lambda cache: cache.folder):
            stack.enter_context(folder_lock(cache.folder, wait=True, what="cache entry"))
        # Another process may have computed rows meanwhile.
        stored = {name: cache.read() for name, cache in caches.items()}
        missing = _missing([entry.places for entry in stored.values()], ids)
        del stored
        batches = [missing[i : i + batch_size] for i in range(0, len(missing), batch_size)]
        _fill(caches, ids, batches, compute, prepare)
        return {name: _picked(cache.read(), ids) for name, cache in caches.items()}


def _missing(stored: Sequence[Collection[str]], ids: Sequence[str]) -> list[int]:
    """First positions of the contents that some entry lacks."""
    lacking = {item for entry in stored for item in ids if item not in entry}
    first = {item: i for i, item in reversed(list(enumerate(ids))) if item in lacking}
    return sorted(first.values())


def _picked(stored: Stored, ids: Sequence[str]) -> Rows:
    """Rows in the order of ``ids``; not copied if one file has them in that order."""
    part, row = np.array([stored.places[item] for item in ids]).T
    starts = np.cumsum([0, *(len(next(iter(rows.values()))) for rows in stored.parts)])
    order = starts[part] + row
    in_order = len(order) == starts[-1] and (np.diff(order) == 1).all()
    picked = {}
    for name, first in stored.parts[0].items():
        several = len(stored.parts) > 1
        whole = torch.cat([rows[name] for rows in stored.parts]) if several else first
        picked[name] = whole if in_order else whole[torch.from_numpy(order)]
    return picked


def _fill(
    caches: dict[K, RowCache],
    ids: Sequence[str],
    batches: list[list[int]],
    compute: Callable[[Any], dict[K, Rows]],
    prepare: Prepare,
) -> None:
    for cache in caches.values():
        drop_leftovers(cache.folder)
        write_json(cache.folder / "key.json", cache.key)
    pending: list[dict[K, Rows]] = []
    positions: list[int] = []
    since = time.monotonic()

    def write() -> None:
        written = [ids[i] for i in positions]
        for name, cache in caches.items():
            cache.write(written, [rows[name] for rows in pending])

    try:
        for batch, item in zip(batches, prepare(batches), strict=True):
            computed = compute(item)
            pending.append(
                {
                    name: {key: value.detach().cpu() for key, value in computed[name].items()}
                    for name in caches
                }
            )
            positions += batch
            if time.monotonic() - since > RowCache.part_seconds:
                write()
                pending, positions, since = [], [], time.monotonic()
    finally:  # an interruption keeps finished rows
        if positions:
            write()


def cache_table(root: Path | str | None = None) -> list[dict]:
    """Entries of the cache: dicts of kind, entry, bytes, key (empty if damaged) and folder."""
    folders = sorted(Path(root or cache_dir()).glob("*/*/key.json"))
    return [
        {
            "kind": path.parent.parent.name,
            "entry": path.parent.name,
            "bytes": sum(file.stat().st_size for file in path.parent.iterdir()),
            "key": _key(path),
            "folder": str(path.parent),
        }
        for path in folders
    ]


def _key(path: Path) -> dict:
    try:
        return read_json(path)
    except ValueError:
        return {}


def clear_cache(kind: str | None = None, root: Path | str | None = None) -> int:
    """Delete all entries, or those of one ``kind``; returns their number.

    Raises:
        LabError: another process is filling an entry; earlier ones are deleted.
    """
    entries = [entry for entry in cache_table(root) if kind in (None, entry["kind"])]
    for entry in entries:
        folder = Path(entry["folder"])
        with folder_lock(folder, wait=False, what="cache entry"):
            # The lock file stays: with a new one two processes could work in the folder.
            drop_leftovers(folder)
            for path in folder.glob("[!.]*"):
                path.unlink()
    return len(entries)
