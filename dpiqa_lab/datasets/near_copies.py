"""Photographs that show the same scene: copies resized, compressed, brightened, blurred or shot
again from nearly the same place.

Two thumbnails are compared by their detail, not their brightness: most photographs are bright above
and dark below, so plain correlation links a skyline to any meadow. What is left of a thumbnail is
the deviation from its surroundings, in units of the local contrast, less the mean of each row and
column, as horizons and door frames are alike everywhere.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..core.cache import RowCache
from ..core.files import json_hash
from ..core.progress import progress_bar
from .images import read_thumbnail

SIDE = 32  # of a thumbnail, in pixels
# Correlation of the details of two photographs of one scene. Of BIQ2021's 23.8 million pairs none
# of those inspected above it showed different scenes; below .6 they begin.
THRESHOLD = 0.65
_KEY = {"version": 1, "side": SIDE, "threshold": THRESHOLD}
_REACH = 4  # pixels of a thumbnail that a scene may be shifted by
# A first look at thumbnails of half the size, which finds what deserves the exact comparison.
_FIRST_THRESHOLD, _FIRST_REACH = 0.42, 1
_BLOCK, _BATCH = 512, 4096  # rows, and pairs, that are compared at once: bounds the memory
_FLOOR = 0.1  # detail (root mean square) below which a picture is flat and like no other


def near_copies(paths: Sequence[Path], hashes: Sequence[str]) -> np.ndarray:
    """Number of the scene of each photograph, (n,) int64; photographs of one scene share it.

    Remembered for a set of photographs, in whatever order; a scene is numbered by the place of its
    first hash among all, sorted.

    Args:
        paths: readable photographs. hashes: of their files, see ``inventory``.
    """
    order = sorted(set(hashes))
    place = {item: i for i, item in enumerate(order)}
    files = dict(zip(hashes, paths, strict=True))

    def group(_) -> dict[str, torch.Tensor]:
        details = thumbnails([files[item] for item in order], order)
        return {"scene": torch.from_numpy(group_thumbnails(details))}

    cache = RowCache("near_copies", {**_KEY, "photographs": json_hash(order)})
    scenes = cache.rows(order, group, max(len(order), 1))["scene"].numpy()
    return scenes[[place[item] for item in hashes]]


def thumbnails(paths: Sequence[Path], hashes: Sequence[str]) -> np.ndarray:
    """Grey thumbnails (n, 32, 32) uint8 of photographs, made once and remembered by hash."""

    def read(positions: list[int]) -> dict[str, torch.Tensor]:
        with ThreadPoolExecutor() as pool:
            made = list(pool.map(lambda i: read_thumbnail(paths[i], SIDE), positions))
        return {"grey": torch.from_numpy(np.stack(made))}

    def bar(batches):
        return progress_bar(batches, "thumbnails", len(batches))

    return RowCache("thumbnails", {"side": SIDE}).rows(hashes, read, 256, bar)["grey"].numpy()


def group_thumbnails(grey: np.ndarray) -> np.ndarray:
    """Number of the scene of each thumbnail: the place of the scene's first one, (n,) int64.

    Whatever is linked through others is one scene. Every pair gets a first look, 512 rows at a
    time: seconds for 10,000 thumbnails, minutes for 100,000, with memory in proportion to n.

    Args:
        grey: (n, 32, 32), 0 to 255.
    """
    n = len(grey)
    scenes = np.arange(n)
    if n < 2:
        return scenes
    fine = _detail(grey)
    coarse = _unit(fine.reshape(n, SIDE // 2, 2, SIDE // 2, 2).mean((2, 4)))
    for start in range(0, n, _BLOCK):
        rows, columns = _first_look(coarse, start)
        # The likeliest first: what they link needs no further comparison.
        while len(rows):
            a, b = rows[:_BATCH], columns[:_BATCH]
            alike = correlation(fine[a], fine[b]) > THRESHOLD
            scenes = join(scenes, a[alike], b[alike])
            rows, columns = rows[_BATCH:], columns[_BATCH:]
            apart = scenes[rows] != scenes[columns]
            rows, columns = rows[apart], columns[apart]
    return scenes


def join(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``labels`` (n,) of rows after linking rows ``a`` with rows ``b``; each the smallest row."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(labels)
    # Every row is linked to one row of its label too.
    ends = np.concatenate([a, np.arange(n)]), np.concatenate([b, labels])
    _, found = connected_components(coo_matrix((np.ones(len(ends[0])), ends), (n, n)), False)
    _, first = np.unique(found, return_index=True)
    return first[found]


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Largest correlation (n,) of details (n, 32, 32) over all shifts of up to 4 pixels."""
    best = np.full(len(a), -1.0, np.float32)
    for y in range(-_REACH, _REACH + 1):
        for x in range(-_REACH, _REACH + 1):
            left, right = _unit(a[_overlap(y, x)]), _unit(b[_overlap(-y, -x)])
            np.maximum(best, np.einsum("nk,nk->n", left, right), out=best)
    return best


def _detail(grey: np.ndarray) -> np.ndarray:
    """What is particular to each thumbnail, (n, 32, 32) float32: see the module."""
    from scipy.ndimage import gaussian_filter

    def blur(x, sigma):
        return gaussian_filter(x, (0, sigma, sigma), mode="nearest")

    # Logarithms, as exposure multiplies; 8 and 0.05 keep the noise of dark and flat parts small.
    light = np.log(grey.astype(np.float32) + 8)
    detail = light - blur(light, 2)
    detail /= np.sqrt(blur(detail**2, 3) + 0.05**2)
    detail -= detail.mean(1, keepdims=True)
    return detail - detail.mean(2, keepdims=True)


def _unit(detail: np.ndarray) -> np.ndarray:
    """Flattened to (n, k) and of length 1, or less where the picture is flat."""
    flat = detail.reshape(len(detail), -1)
    return flat / np.sqrt((flat**2).sum(1, keepdims=True) + _FLOOR**2 * flat.shape[1])


def _overlap(y: int, x: int) -> tuple[slice, ...]:
    """Of (n, height, width), what overlaps with another shifted by (y, x)."""
    return slice(None), *(slice(max(0, d), min(0, d) or None) for d in (y, x))


def _first_look(coarse: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows from ``start`` on and later rows that may be alike, the likeliest first."""
    half = SIDE // 2
    block = coarse[start : start + _BLOCK].reshape(-1, half, half)
    rest = torch.from_numpy(coarse[start:])
    best = torch.full((len(block), len(rest)), -1.0)
    for y in range(-_FIRST_REACH, _FIRST_REACH + 1):
        for x in range(-_FIRST_REACH, _FIRST_REACH + 1):
            moved = np.zeros_like(block)
            moved[_overlap(y, x)] = block[_overlap(-y, -x)]
            shifted = torch.from_numpy(moved.reshape(len(block), -1))
            torch.maximum(best, shifted @ rest.T, out=best)
    likely = (best > _FIRST_THRESHOLD).triu(1)
    rows, columns = likely.nonzero(as_tuple=True)
    order = torch.argsort(best[rows, columns], descending=True, stable=True)
    return rows[order].numpy() + start, columns[order].numpy() + start
