"""Hand-made statistics as labels without ratings: naturalness, sharpness, colour."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from ..core.cache import RowCache
from ..core.progress import progress_bar
from ..datasets.brisque_features import FEATURES, naturalness
from ..datasets.image_set import ImageSet
from ..datasets.image_statistics import STATISTICS, each_photograph, image_statistics
from ..datasets.pixels import Pixels
from ..datasets.prior_views import Views

COUNT = FEATURES + len(STATISTICS)
_FURTHEST = 3.0  # deviations: what lies beyond is an outlier of a statistic, not of a photograph


def statistics_targets(photographs: ImageSet, cache_dir: Path | str | None = None) -> torch.Tensor:
    """BRISQUE's 36 naturalness statistics and `STATISTICS` of photographs, on one scale.

    Each is replaced by the normal deviate of its rank among the photographs, as most of them are
    skewed over decades. Computed once for each photograph, from the cache where known.

    Returns:
        (n, `COUNT`) float32 tensor, within ±3.
    """
    key = {"size": photographs.image_size, "count": COUNT}
    ids = list(photographs.table["hash"])
    return _deviates(Pixels(photographs), lambda item: item[0], ids, key, cache_dir)


def view_statistics(views: Views, cache_dir: Path | str | None = None) -> torch.Tensor:
    """The same of damaged views, ranked among these."""
    ids = [str(i) for i in range(len(views.pixels))]
    key = {"views": views.key, "count": COUNT}

    def colours_first(pixels: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)

    return _deviates(views.pixels, colours_first, ids, key, cache_dir)


def _deviates(
    items: Pixels | np.ndarray,
    pixels_of: Callable[..., torch.Tensor],
    ids: list[str],
    key: dict,
    cache_dir: Path | str | None,
) -> torch.Tensor:
    from sklearn.preprocessing import QuantileTransformer

    def of_batch(batch: list[int]) -> dict[str, torch.Tensor]:
        rows = each_photograph(items, lambda item: _statistics(pixels_of(item)), positions=batch)
        return {"statistics": torch.from_numpy(np.stack(rows).astype(np.float32))}

    def with_bar(batches: list[list[int]]) -> Iterator[list[int]]:
        yield from progress_bar(batches, "hand-made statistics", len(batches))

    cache = RowCache("statistics", key, cache_dir)
    found = cache.rows(ids, of_batch, 64, with_bar)["statistics"].numpy()
    ranks = QuantileTransformer(
        n_quantiles=min(500, len(found)), output_distribution="normal", subsample=None
    ).fit_transform(found)
    return torch.from_numpy(ranks.clip(-_FURTHEST, _FURTHEST).astype(np.float32))


def _statistics(pixels: torch.Tensor) -> np.ndarray:
    return np.concatenate([naturalness(pixels)[0], image_statistics(pixels)[0]])
