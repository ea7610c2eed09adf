"""Near duplicates: images of one scene, resized, compressed, brightened, blurred or taken again
from nearly the same place. Mirrored, rotated and tightly cropped copies are not detected.

Thumbnails are compared by detail, not brightness: most photographs are bright above and dark below,
so plain correlation links a skyline to any meadow. The detail is the deviation from the
surroundings, in units of local contrast, less the mean of each row and column, as horizons and door
frames are alike everywhere.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..core.cache import RowCache
from ..core.files import json_hash
from ..core.progress import progress_bar
from .images import read_thumbnail
from .split_schemes import SPLITS, groups_of

SIDE = 32  # of a thumbnail, in pixels
# Correlation of the details of two images of one scene. 2,203 of BIQ2021's 24 million pairs exceed
# it. All inspected pairs show one scene: 80 at random, 72 of the 217 weakest, 72 outside ss01, and
# 72 slightly below the threshold. Pairs of different scenes begin at 0.59.
THRESHOLD = 0.65
_KEY = {"version": 1, "side": SIDE, "threshold": THRESHOLD}
_REACH = 4  # largest shift of a scene, in pixels of a thumbnail
# Thumbnails of half the size give candidates for the exact comparison.
_FIRST_THRESHOLD, _FIRST_REACH = 0.38, 1
# Rows and pairs compared, and thumbnails prepared at a time: bounds of the memory.
_BLOCK, _BATCH, _DETAILS = 512, 1024, 4096
_FLOOR = 0.1  # detail (root mean square) below which an image counts as flat and matches no other


def scenes_of(table: pd.DataFrame) -> np.ndarray:
    """Scene number of each image, (n,) int64, equal for near copies. Cached.

    Files of equal content are one scene, and so is a group. Independent of the order of images.

    Args:
        table: name, path, hash (see ``image_index``) and if known group, of readable images.
    """
    if not len(table):
        return np.empty(0, int)
    contents, content = np.unique(table["hash"].to_numpy(str), return_inverse=True)
    known = np.arange(len(contents))
    if "group" in table:
        labels, _ = pd.factorize(groups_of(table))
        _, first = np.unique(labels, return_index=True)
        known = join_groups(known, content, content[first][labels])

    def compare(_: object) -> dict[str, torch.Tensor]:
        files = dict(zip(table["hash"], table["path"], strict=True))
        grey = thumbnails([files[item] for item in contents], contents.tolist())
        return {"scene": torch.from_numpy(group_thumbnails(grey, known))}

    key = {**_KEY, "photographs": json_hash([contents.tolist(), known.tolist()])}
    cache = RowCache("near_copies", key)
    return cache.rows(contents.tolist(), compare, len(contents))["scene"].numpy()[content]


def with_scenes(table: pd.DataFrame, scenes: np.ndarray | pd.Series) -> pd.DataFrame:
    """``table`` with a ``group`` that near copies share, if there are any.

    A scene's group is the first of its groups, or of its images' names. A table of fewer scenes
    than splits is returned unchanged: it could not be split.
    """
    labels, scenes = groups_of(table), np.asarray(scenes)
    distinct = labels.groupby(scenes).nunique()
    if (distinct == 1).all() or len(distinct) < len(SPLITS):
        return table
    ordered = labels.sort_values(key=lambda column: column.astype(str), kind="stable")
    numbers = pd.Series(scenes, table.index)[ordered.index]
    return table.assign(group=ordered.groupby(numbers).transform("first"))


def thumbnails(paths: Sequence[Path], hashes: Sequence[str]) -> np.ndarray:
    """Grey thumbnails (n, 32, 32) uint8, cached by hash."""

    def read(positions: list[int]) -> dict[str, torch.Tensor]:
        with ThreadPoolExecutor() as pool:
            made = list(pool.map(lambda i: read_thumbnail(paths[i], SIDE), positions))
        return {"grey": torch.from_numpy(np.stack(made))}

    def bar(batches: list[list[int]]) -> Iterable[list[int]]:
        return progress_bar(batches, "reading thumbnails", len(batches))

    return RowCache("thumbnails", {"side": SIDE}).rows(hashes, read, 256, bar)["grey"].numpy()


def group_thumbnails(grey: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """Scene of each thumbnail, (n,) int64: the position of the scene's first one.

    Scenes are connected components. All pairs are screened: seconds for 10,000 thumbnails, minutes
    for 100,000; memory is proportional to n.

    Args:
        grey: (n, 32, 32), 0 to 255.
        known: scenes (n,) known in advance, in the form of the result.
    """
    n = len(grey)
    scenes = np.arange(n) if known is None else known
    fine = np.concatenate([_detail(grey[i : i + _DETAILS]) for i in range(0, n, _DETAILS)])
    coarse = _unit(fine.reshape(n, SIDE // 2, 2, SIDE // 2, 2).mean((2, 4)))
    starts = range(0, n, _BLOCK)
    for start in progress_bar(starts, "finding near copies", len(starts)):
        pairs = _candidates(coarse, start)
        # The most similar first: scenes joined by them need no further comparison.
        while len(pairs := pairs[scenes[pairs[:, 0]] != scenes[pairs[:, 1]]]):
            a, b = pairs[:_BATCH].T
            alike = correlation(fine[a], fine[b]) > THRESHOLD
            scenes = join_groups(scenes, a[alike], b[alike])
            pairs = pairs[_BATCH:]
    return scenes


def join_groups(scenes: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``scenes`` (n,) after linking each row of ``a`` with that of ``b``."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(scenes)
    rows, columns = np.append(a, np.arange(n)), np.append(b, scenes)
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), (n, n))
    _, found = connected_components(graph, directed=False)
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
    """Detail of each thumbnail, (n, 32, 32) float32: see the module."""
    from scipy.ndimage import gaussian_filter

    def blur(x: np.ndarray, sigma: float) -> np.ndarray:
        return gaussian_filter(x, (0, sigma, sigma), mode="nearest")

    # Logarithms, as exposure multiplies; 8 and 0.05 keep the noise of dark and flat areas small.
    light = np.log(grey.astype(np.float32) + 8)
    detail = light - blur(light, 2)
    detail /= np.sqrt(blur(detail**2, 3) + 0.05**2)
    detail -= detail.mean(1, keepdims=True)
    return detail - detail.mean(2, keepdims=True)


def _unit(detail: np.ndarray) -> np.ndarray:
    """Flattened to (n, k) and of length 1, or less if the image is flat."""
    flat = detail.reshape(len(detail), -1)
    return flat / np.sqrt((flat**2).sum(1, keepdims=True) + _FLOOR**2 * flat.shape[1])


def _overlap(y: int, x: int) -> tuple[slice, ...]:
    """Slices of (n, height, width) that overlap with a copy shifted by (y, x)."""
    return slice(None), *(slice(max(0, d), min(0, d) or None) for d in (y, x))


def _candidates(coarse: np.ndarray, start: int) -> np.ndarray:
    """Pairs (m, 2) of rows, the first one in the block from ``start``; most similar pairs first."""
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
    pairs = (best > _FIRST_THRESHOLD).triu(1).nonzero()
    order = torch.argsort(best[pairs[:, 0], pairs[:, 1]], descending=True, stable=True)
    return pairs[order].numpy() + start
