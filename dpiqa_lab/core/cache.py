"""Rows computed once: latents, prompt embeddings, features, one row an item, kept on disk.

An entry is a folder ``cache/<kind>/<hash of its key>/``. The key names everything that changes the
numbers, except the item itself, which each row is stored under (for a photograph, the hash of its
file). Rows are written in parts as they are computed, so an interruption loses one part at most.

Whatever surrounds the call, rows are computed in plain float32 and not compiled, see
``device.exact``. What is to be computed otherwise says so within, and in its key.
"""

import contextlib
import json
import time
import uuid
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .device import exact
from .files import atomic_path, drop_leftovers, json_hash, read_json, tensors_hash, write_json
from .locks import folder_lock
from .paths import cache_dir

Rows = dict[str, torch.Tensor]
# Entries of another number are left alone: in those of 1, which named none, rows may have been
# computed in a lower precision than their key says.
_FORMAT = 2
# What reading a damaged file raises.
_DAMAGED = (SafetensorError, OSError, KeyError, TypeError, ValueError)


class Stored(NamedTuple):
    """Rows as they lie in the files: the files' rows, and of each item its file and row there."""

    parts: list[Rows]
    places: dict[str, tuple[int, int]]


class RowCache:
    """Named tensors with one row an item, under one key.

    Args:
        kind: what the rows are, such as "latents"; a sub-folder of the cache.
        key: JSON-serialisable; everything that changes the numbers except the items.
        root: the cache's folder; ``None`` is the lab's own.
    """

    part_seconds = 30.0

    def __init__(self, kind: str, key: dict, root: Path | str | None = None):
        self.folder = Path(root or cache_dir()) / kind / json_hash([_FORMAT, key])[:16]
        self.key = key

    def rows(
        self,
        ids: Sequence[str],
        compute: Callable[[object], Rows],
        batch_size: int = 16,
        prepare: Callable[[list[list[int]]], Iterable] = iter,
    ) -> Rows:
        """Rows for ``ids``, in their order; those not stored yet are computed and stored.

        Args:
            ids: an id an item; equal ids are the same content.
            compute: from a batch of positions in ``ids``, as ``prepare`` gives it, to their rows.
            prepare: from the batches still to be computed to what ``compute`` takes, one each: a
                progress bar around them, or a loader that reads ahead.

        Returns:
            Tensors of shape (len(ids), ...).
        """
        one = shared_rows({"": self}, ids, lambda item: {"": compute(item)}, batch_size, prepare)
        return one[""]

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of ``ids`` that are not stored, as far as ``held`` tells."""
        held = self.held()
        return [item for item in dict.fromkeys(ids) if item not in held]

    def held(self) -> set[str]:
        """Ids by the files' headers alone; the bytes are checked when rows are read."""
        found = set()
        for path in self.folder.glob("*.safetensors"):
            damaged = contextlib.suppress(*_DAMAGED)
            with damaged, safe_open(path, "pt") as file:
                found.update(json.loads(file.metadata()["ids"]))
        return found

    def _write(self, ids: list[str], pending: list[Rows]) -> None:
        rows = {name: torch.cat([part[name] for part in pending]) for name in pending[0]}
        rows = {name: value.contiguous() for name, value in rows.items()}
        metadata = {"ids": json.dumps(ids), "sha256": tensors_hash(rows)}
        with atomic_path(self.folder / f"{uuid.uuid4().hex[:12]}.safetensors") as temporary:
            save_file(rows, temporary, metadata)

    def _read(self) -> Stored:
        read = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                read[path] = _part(path)
            except _DAMAGED as error:
                _drop(path, error)
        kinds = {
            tuple((name, value.dtype, value.shape[1:]) for name, value in sorted(rows.items()))
            for _, rows in read.values()
        }
        if len(kinds) > 1:  # which of them is right cannot be told
            for path in read:
                _drop(path, "its rows and another file's are of different shapes")
            read = {}
        found = Stored([], {})
        for ids, rows in read.values():
            found.places.update({item: (len(found.parts), i) for i, item in enumerate(ids)})
            found.parts.append(rows)
        return found


def _part(path: Path) -> tuple[list[str], Rows]:
    """Ids and rows of a file; one of ``_DAMAGED`` is raised where it is not as it was written."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        rows = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if tensors_hash(rows) != metadata["sha256"]:
        raise SafetensorError("checksum differs")
    ids = json.loads(metadata["ids"])
    if not rows or any(len(value) != len(ids) for value in rows.values()):
        raise SafetensorError("not a row an id")
    return [str(item) for item in ids], rows


def _drop(path: Path, why: object) -> None:
    warnings.warn(
        f"damaged cache file {path} ({why}): dropped, its rows are computed again.", stacklevel=4
    )
    path.unlink(missing_ok=True)


@exact()
def shared_rows(
    caches: dict[str, RowCache],
    ids: Sequence[str],
    compute: Callable[[object], dict[str, Rows]],
    batch_size: int = 16,
    prepare: Callable[[list[list[int]]], Iterable] = iter,
) -> dict[str, Rows]:
    """Rows of several entries that one computation gives together, by the entries' names.

    As ``RowCache.rows``; an item is computed where any of the entries lacks it. Ask for those
    entries alone that are to be filled by this computation.
    """
    if not _missing([cache.held() for cache in caches.values()], ids):
        stored = {name: cache._read() for name, cache in caches.items()}
        if not _missing([entry.places for entry in stored.values()], ids):  # nothing is damaged
            return {name: _picked(entry, ids) for name, entry in stored.items()}
    with contextlib.ExitStack() as stack:
        # In one order for all processes, or two of them could wait for each other.
        for cache in sorted(caches.values(), key=lambda cache: cache.folder):
            stack.enter_context(folder_lock(cache.folder, wait=True, what="cache entry"))
        # Another process may have computed some meanwhile.
        stored = {name: cache._read() for name, cache in caches.items()}
        missing = _missing([entry.places for entry in stored.values()], ids)
        del stored
        batches = [missing[i : i + batch_size] for i in range(0, len(missing), batch_size)]
        _fill(caches, ids, batches, compute, prepare)
        return {name: _picked(cache._read(), ids) for name, cache in caches.items()}


def _missing(stored: Sequence[Collection[str]], ids: Sequence[str]) -> list[int]:
    """Positions of the first item of each content that some entry lacks."""
    lacking = {item for entry in stored for item in ids if item not in entry}
    first = {item: i for i, item in reversed(list(enumerate(ids))) if item in lacking}
    return sorted(first.values())


def _picked(stored: Stored, ids: Sequence[str]) -> Rows:
    """Rows in the order of ``ids``; not copied where one file has them in that order."""
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


def _fill(caches, ids, batches, compute, prepare) -> None:
    for cache in caches.values():
        drop_leftovers(cache.folder)
        write_json(cache.folder / "key.json", cache.key)
    pending, positions, since = [], [], time.monotonic()

    def write() -> None:
        written = [ids[i] for i in positions]
        for name, cache in caches.items():
            cache._write(written, [rows[name] for rows in pending])

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
    finally:  # an interruption keeps what is done
        if positions:
            write()


def cache_table(root: Path | str | None = None) -> list[dict]:
    """What the cache holds: one dict an entry with kind, entry, bytes, key, folder.

    ``key`` is empty where its file is damaged; the rows' own files say what they hold.
    """
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
    """Delete every entry, or those of one ``kind``; the number deleted.

    Raises:
        LabError: another process fills one of them; those before it are gone.
    """
    entries = [entry for entry in cache_table(root) if kind in (None, entry["kind"])]
    for entry in entries:
        folder = Path(entry["folder"])
        with folder_lock(folder, wait=False, what="cache entry"):
            # The lock's file stays: with another in its place two processes could be at work.
            drop_leftovers(folder)
            for path in folder.glob("[!.]*"):
                path.unlink()
    return len(entries)
