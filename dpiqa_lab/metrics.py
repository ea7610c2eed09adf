"""Agreement of predicted scores with mean opinion scores (MOS), and its confidence intervals.

SRCC, KRCC, PLCC and RMSE are the criteria of the VQEG reports and of ITU-T P.1401. All take one
score and one MOS per image, as arrays, tensors or lists of length n.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from .core.errors import LabError, unknown
from .logistic import Logistic, Vector, checked, fit_logistic, float64, varied

__all__ = [
    "Logistic",
    "bootstrap",
    "bootstrap_difference",
    "fit_logistic",
    "format_metric",
    "krcc",
    "plcc",
    "psnr",
    "rmse",
    "srcc",
    "subset_means",
    "subset_oracle",
    "summary",
    "within_subsets",
]

# Numbers per array of the bootstrap; some eight arrays exist at once, 64 MB in total.
_CHUNK = 1_000_000


def srcc(pred: Vector, mos: Vector) -> float:
    """Spearman's rank correlation in [-1, 1], ties at their mean rank.

    NaN if undefined: n < 3 or an input is constant.

    Raises:
        LabError: inputs are not finite 1-D numbers of equal length, as for every function here.
    """
    from scipy.stats import spearmanr

    x, y = checked(pred, mos)
    return float(spearmanr(x, y).statistic) if varied(x, y) else float("nan")


def krcc(pred: Vector, mos: Vector) -> float:
    """Kendall's rank correlation in [-1, 1], tau-b (corrected for ties); NaN as for `srcc`."""
    from scipy.stats import kendalltau

    x, y = checked(pred, mos)
    return float(kendalltau(x, y).statistic) if varied(x, y) else float("nan")


def plcc(pred: Vector, mos: Vector, logistic: bool = False) -> float:
    """Pearson's correlation in [-1, 1]; with ``logistic``, of ``fit_logistic(pred, mos)(pred)``.

    The logistic removes the sign: a decreasing relation counts as good. NaN as for ``srcc``, and if
    no logistic could be fitted (which warns).
    """
    x, y = checked(pred, mos)
    if logistic and varied(x, y):
        x = fit_logistic(x, y)(x)
    return float(np.corrcoef(x, y)[0, 1]) if varied(x, y) else float("nan")


def rmse(pred: Vector, mos: Vector, logistic: bool = False) -> float:
    """Root of the mean squared error, in units of MOS; with ``logistic``, after the fitted curve.

    NaN for n = 0, and if no logistic could be fitted (which warns).
    """
    x, y = checked(pred, mos)
    mapped = fit_logistic(x, y)(x) if logistic else x
    return float(np.sqrt(np.mean((mapped - y) ** 2))) if len(x) else float("nan")


def bootstrap(
    pred: Vector,
    mos: Vector,
    metrics: Sequence[str] = ("srcc", "plcc"),
    n: int = 1000,
    seed: int = 0,
    groups: Sequence | None = None,
    level: float = 0.95,
    within: Sequence | None = None,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals (Efron & Tibshirani 1993), name to (low, high).

    Resamples with an undefined metric are left out; NaN for fewer than three rows or two groups. A
    logistic is fitted once, to all rows: as it is optimal there, refitting it to each resample
    would change the metric only to second order.

    Args:
        metrics: of srcc, plcc, rmse, plcc_logistic, rmse_logistic, and krcc, which is slow.
        n: number of resamples.
        groups: one label per row; whole groups are resampled, as rows with shared content are not
            independent.
        within: one subset per row, for intervals of ``within_subsets``.

    Raises:
        LabError: an unknown metric.
    """
    x, y = checked(pred, mos)
    many = {name: _many(name, x, y, within) for name in metrics}
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
    for counts in _resamples(len(x), groups, n, seed):
        for name in many:
            drawn[name].append(many[name](counts))
    return {name: _interval(values, level) for name, values in drawn.items()}


def bootstrap_difference(
    pred_a: Vector,
    pred_b: Vector,
    mos: Vector,
    metric: str = "srcc",
    n: int = 1000,
    seed: int = 0,
    groups: Sequence | None = None,
    level: float = 0.95,
    within: Sequence | None = None,
) -> tuple[float, float, float]:
    """(difference, low, high) of ``metric`` for ``pred_a`` minus ``pred_b``, paired.

    Both use the same resamples, so that the difficulty of a resample cancels; an interval without 0
    means that they differ. Either may be (k, n), the scores of k trainings, whose metrics are
    averaged. Arguments and errors as for ``bootstrap``.
    """
    rows_a, rows_b = ([checked(row, mos) for row in np.atleast_2d(p)] for p in (pred_a, pred_b))
    many_a, many_b = ([_many(metric, *row, within) for row in rows] for rows in (rows_a, rows_b))
    drawn = [
        np.mean([many(counts) for many in many_a], 0)
        - np.mean([many(counts) for many in many_b], 0)
        for counts in _resamples(len(rows_a[0][1]), groups, n, seed)
    ]
    point = _POINT[metric]
    if within is not None:
        point = functools.partial(within_subsets, subsets=within, metric=metric)
    point_a, point_b = (np.mean([point(*row) for row in rows]) for rows in (rows_a, rows_b))
    return (float(point_a - point_b), *_interval(drawn, level))


def within_subsets(pred: Vector, mos: Vector, subsets: Sequence, metric: str = "srcc") -> float:
    """Mean over subsets of ``metric`` within each, weighted by their numbers of images.

    Excludes agreement that is due to differences between subsets, such as cameras of different
    quality. Subsets of fewer than three images, or with an undefined metric, are left out; NaN if
    all are. ``subsets``: one label per row.

    Raises:
        LabError: missing labels or an unknown metric.
    """
    x, y = checked(pred, mos)
    return float(_many(metric, x, y, subsets)(np.ones((1, len(x))))[0])


def subset_means(subsets: Sequence, train_mos: Vector, train_subsets: Sequence) -> np.ndarray:
    """Predictions (n,) from subsets only: the mean MOS of an image's subset in train.

    A subset missing from train gets the mean of train.
    """
    import pandas as pd

    known = pd.Series(float64(train_mos, "train_mos"))
    means = known.groupby(np.asarray(train_subsets)).mean()
    return pd.Series(np.asarray(subsets)).map(means).fillna(known.mean()).to_numpy(float)


def subset_oracle(means: Vector, mos: Vector, groups: Sequence | None = None) -> dict:
    """n, srcc and plcc of `subset_means`, with 95% intervals."""
    intervals = bootstrap(means, mos, groups=groups)
    found = {"n": len(means)} | {name: _POINT[name](means, mos) for name in intervals}
    return found | {f"{name}_ci": list(interval) for name, interval in intervals.items()}


def psnr(restored: np.ndarray | torch.Tensor, images: np.ndarray | torch.Tensor) -> np.ndarray:
    """Peak signal-to-noise ratio in dB, (b,), of arrays or tensors (b, 3, h, w) in [0, 1].

    ``restored`` is clipped to that range first.
    """
    error = (float64(restored, "restored").clip(0, 1) - float64(images, "images")) ** 2
    return -10 * np.log10(error.mean((1, 2, 3)))


def summary(pred: Vector, mos: Vector, groups: Sequence | None = None, seed: int = 0) -> dict:
    """n, srcc, plcc, plcc_logistic, rmse and krcc; 95% intervals as ``<metric>_ci``, [low, high].

    krcc has no interval, as it is slow to resample. ``groups``: see `bootstrap`.
    """
    x, y = checked(pred, mos)
    intervals = bootstrap(x, y, ("srcc", "plcc", "plcc_logistic", "rmse"), 1000, seed, groups)
    result = {"n": len(x)} | {name: _POINT[name](x, y) for name in (*intervals, "krcc")}
    return result | {f"{name}_ci": list(interval) for name, interval in intervals.items()}


_POINT: dict[str, Callable[[Vector, Vector], float]] = {
    "srcc": srcc,
    "plcc": plcc,
    "krcc": krcc,
    "rmse": rmse,
    "plcc_logistic": functools.partial(plcc, logistic=True),
    "rmse_logistic": functools.partial(rmse, logistic=True),
}


def _many(
    metric: str, x: np.ndarray, y: np.ndarray, within: Sequence | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """``metric`` as a function of the rows' counts (resamples, n), to (resamples,)."""
    if within is not None:
        return _many_within(metric, x, y, within)
    if metric not in _POINT:
        raise unknown("metric", metric, _POINT)
    base = metric.removesuffix("_logistic")
    scores = x if base == metric else fit_logistic(x, y)(x)
    many = {"srcc": _srccs, "plcc": _plccs, "krcc": _krccs, "rmse": _rmses}[base]
    return functools.partial(many, scores, y)


def _many_within(
    metric: str, x: np.ndarray, y: np.ndarray, subsets: Sequence
) -> Callable[[np.ndarray], np.ndarray]:
    labels = _labels(subsets, len(x), "subsets")
    rows = [np.flatnonzero(labels == label) for label in range(labels.max(initial=-1) + 1)]
    rows = [row for row in rows if len(row) >= 3]
    many = [_many(metric, x[row], y[row]) for row in rows]

    def mean(counts: np.ndarray) -> np.ndarray:
        sums, total = np.zeros(len(counts)), np.zeros(len(counts))
        for one, row in zip(many, rows, strict=True):
            weights = counts[:, row].sum(1)
            drawn = np.flatnonzero(weights)  # resamples of whole groups may lack a subset
            values = one(counts[drawn][:, row])
            drawn, values = drawn[np.isfinite(values)], values[np.isfinite(values)]
            sums[drawn] += values * weights[drawn]
            total[drawn] += weights[drawn]
        return np.where(total > 0, sums / np.maximum(total, 1), np.nan)

    return mean


def _srccs(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    a, b = _ranks(x, counts), _ranks(y, counts)
    return _ratio(*(np.einsum("rn,rn,rn->r", counts, p, q) for p, q in ((a, b), (a, a), (b, b))))


def _ranks(x: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Centred ranks of every resample, from a single sort of ``x``."""
    values, place = np.unique(x, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(len(values)))
    tied = np.add.reduceat(counts[:, order], starts, axis=1)
    return (tied.cumsum(axis=1) - (tied + tied.sum(axis=1, keepdims=True)) / 2)[:, place]


def _plccs(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    if not varied(x, y):
        return np.full(len(counts), np.nan)
    # Standardised first: squares of numbers far from zero lose precision.
    a, b = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    sums = counts @ np.stack([a, b, a * b, a * a, b * b], axis=1)
    a, b, ab, aa, bb = (sums / counts.sum(axis=1, keepdims=True)).T
    return _ratio(ab - a * b, aa - a * a, bb - b * b)


def _krccs(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    rows = (np.repeat(np.arange(len(x)), count.astype(int)) for count in counts)
    return np.array([krcc(x[row], y[row]) for row in rows])


def _rmses(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.sqrt(counts @ (x - y) ** 2 / counts.sum(axis=1))


def _ratio(covariance: np.ndarray, variance_x: np.ndarray, variance_y: np.ndarray) -> np.ndarray:
    defined = (variance_x > 1e-12) & (variance_y > 1e-12)
    product = np.where(defined, variance_x * variance_y, np.nan)
    return np.clip(covariance / np.sqrt(product), -1, 1)


def _resamples(n: int, groups: Sequence | None, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Counts of the rows in resamples, float64, in chunks of (some resamples, n)."""
    unit_of_row = np.arange(n) if groups is None else _labels(groups, n, "groups")
    units = int(unit_of_row.max(initial=-1)) + 1
    chunk = max(1, _CHUNK // max(n, 1))
    rng = np.random.default_rng(seed)
    for start in range(0, resamples if n >= 3 and units > 1 else 0, chunk):
        size = min(chunk, resamples - start)
        drawn = rng.integers(units, size=(size, units)) + units * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)
        yield counts[:, unit_of_row].astype(float)


def _labels(labels: Sequence, n: int, what: str) -> np.ndarray:
    """Labels of n rows as numbers (n,) from 0."""
    import pandas as pd

    numbers, _ = pd.factorize(np.asarray(labels))
    if len(numbers) != n or (numbers < 0).any():
        raise LabError(f"{what} has {len(numbers)} labels, some missing, for {n} rows.")
    return numbers


def _interval(chunks: list[np.ndarray], level: float) -> tuple[float, float]:
    values = np.concatenate(chunks) if chunks else np.empty(0)
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def format_metric(value: float | None) -> str:
    """A metric to three digits; "undefined" for NaN or None (NaN in JSON)."""
    return f"{value:.3f}" if value is not None and np.isfinite(value) else "undefined"
