"""Agreement of models with MOS, by dataset: tables.

``scores`` has a row per dataset, model and image: dataset, model, name, mos, score, subset and
group (empty if unknown), and for datasets with subsets subset_mean, the mean MOS of the image's
subset in train.
"""

import itertools
import warnings

import numpy as np
import pandas as pd

from .. import metrics
from ..logistic import Logistic

# For a whole dataset with subsets.
SUBSETS = (
    "within_srcc", "within_srcc_low", "within_srcc_high",
    "oracle_srcc", "oracle_srcc_low", "oracle_srcc_high",
)  # fmt: skip
METRICS = ("srcc", "krcc", "plcc", "plcc_logistic", "rmse", "rmse_logistic")
_BINS = 10  # of a calibration, maximum
_MIN_BIN = 5  # images per bin


def agreement(scores: pd.DataFrame, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Every metric with its 95% bootstrap interval, a row per dataset, model and subset.

    The subset "all" is the whole dataset; its subsets follow. ``contents`` is the number of images
    or groups that are resampled: with few, intervals are too narrow. ``logistic``: see
    ``fitted_curve``; the metrics after the logistic are NaN if it could not be fitted.
    ``within_srcc``, ``oracle_srcc`` (of "all"): see ``beside_subsets``.
    """
    rows = []
    for (dataset, model), part in scores.groupby(["dataset", "model"], sort=False):
        subsets = [("all", part)]
        if (part["subset"] != "").any():
            subsets += list(part.groupby("subset"))
        for subset, table in subsets:
            found = measured(table, resamples, seed)
            if len(subsets) > 1 and subset == "all":
                found |= beside_subsets(table, resamples, seed)
            rows.append({"dataset": dataset, "model": model, "subset": subset, **found})
    ends = [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
    columns = ["dataset", "model", "subset", "n", "contents", *ends, *SUBSETS, "logistic"]
    return pd.DataFrame(rows, columns=columns)


def measured(table: pd.DataFrame, resamples: int = 1000, seed: int = 0) -> dict:
    """n, contents, each metric with ``_low`` and ``_high``, and ``logistic``, of one model."""
    score, mos = table["score"].to_numpy(float), table["mos"].to_numpy(float)
    curve, state = fitted_curve(score, mos)
    groups = _groups(table)
    contents = len(table) if groups is None else groups.nunique()
    found = {"n": len(table), "contents": contents, "logistic": state}
    # A failed fit is in the table already.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "no logistic fitted", RuntimeWarning)
        ends = metrics.bootstrap(score, mos, METRICS, resamples, seed, groups)
        for metric in METRICS:
            base = metric.removesuffix("_logistic")
            values = curve(score) if base != metric else score
            known = np.isfinite(values).all()
            found[metric] = getattr(metrics, base)(values, mos) if known else float("nan")
            found[f"{metric}_low"], found[f"{metric}_high"] = ends[metric]
    return found


def beside_subsets(table: pd.DataFrame, resamples: int = 1000, seed: int = 0) -> dict:
    """The contribution of subsets to one model's SRCC on a dataset, with intervals.

    ``within_srcc``: see ``metrics.within_subsets``. ``oracle_srcc``: SRCC of
    ``subset_mean``, which depends on the subset alone; NaN if unknown.
    """
    mos, groups, subsets = table["mos"], _groups(table), table["subset"]
    low, high = metrics.bootstrap(
        table["score"], mos, ("srcc",), resamples, seed, groups, within=subsets
    )["srcc"]
    within = metrics.within_subsets(table["score"], mos, subsets)
    found = {"within_srcc": within, "within_srcc_low": low, "within_srcc_high": high}
    if "subset_mean" in table and table["subset_mean"].notna().all():
        low, high = metrics.bootstrap(
            table["subset_mean"], mos, ("srcc",), resamples, seed, groups
        )["srcc"]
        oracle = metrics.srcc(table["subset_mean"], mos)
        found |= {"oracle_srcc": oracle, "oracle_srcc_low": low, "oracle_srcc_high": high}
    return found


def fitted_curve(score: np.ndarray, mos: np.ndarray) -> tuple[Logistic, str]:
    """The logistic from scores to MOS, and its state.

    "rising"; "falling" if scores decrease with MOS (a high PLCC after the mapping is then
    misleading); or why the fit failed: the logistic is then NaN everywhere.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        curve = metrics.fit_logistic(score, mos)
    if not curve.fitted:
        return curve, str(caught[-1].message)
    return curve, "rising" if curve.high > curve.low else "falling"


def differences(
    scores: pd.DataFrame, metric: str = "srcc", resamples: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Paired differences between all models on a dataset.

    A row per dataset and pair: ``difference`` of ``metric`` (a - b) with its paired 95% bootstrap
    interval, and ``differs``: whether the interval excludes 0, not corrected for multiple pairs.
    """
    rows = []
    for dataset, part in scores.groupby("dataset", sort=False):
        models = dict(list(part.groupby("model", sort=False)))
        for a, b in itertools.combinations(models, 2):
            left, right = models[a], models[b].set_index("name").loc[models[a]["name"]]
            difference, low, high = metrics.bootstrap_difference(
                left["score"], right["score"], left["mos"], metric, resamples, seed, _groups(left)
            )
            differs = bool(np.isfinite(low) and (low > 0 or high < 0))
            found = {"metric": metric, "difference": difference, "low": low, "high": high}
            rows.append({"dataset": dataset, "a": a, "b": b, **found, "differs": differs})
    columns = ["dataset", "a", "b", "metric", "difference", "low", "high", "differs"]
    return pd.DataFrame(rows, columns=columns)


def cross_table(results: pd.DataFrame) -> pd.DataFrame:
    """Results by training and test dataset, for models whose training dataset is known.

    Args:
        results: ``agreement`` with the columns that ``evaluate`` adds.

    Returns:
        A row per model and dataset: trained_on, model, tested_on, n, srcc, plcc, plcc_logistic,
        rmse, rmse_logistic (with ``_low`` and ``_high``), scale, notes, error.
    """
    known = (results["trained_on"] != "") & (results["subset"] == "all")
    names = ("srcc", "plcc", "plcc_logistic", "rmse", "rmse_logistic")
    ends = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    table = results[known].rename(columns={"dataset": "tested_on"})
    table = table.sort_values(["trained_on", "model"], kind="stable", ignore_index=True)
    return table[["trained_on", "model", "tested_on", "n", *ends, "scale", "notes", "error"]]


def calibration(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean MOS by score, images binned by score in equal numbers.

    A row per dataset, model and bin: bin, n, mean score, mean mos, and mos_low and mos_high, its
    95% interval by the standard error.
    """
    rows = []
    for (dataset, model), part in scores.groupby(["dataset", "model"], sort=False):
        order = np.argsort(part["score"].to_numpy(), kind="stable")
        count = int(np.clip(len(part) // _MIN_BIN, 1, _BINS))
        for place, chosen in enumerate(np.array_split(order, count)):
            mean, low, high = mean_interval(part["mos"].to_numpy(float)[chosen])
            score = part["score"].to_numpy(float)[chosen].mean()
            found = {"n": len(chosen), "score": score, "mos": mean}
            ends = {"mos_low": low, "mos_high": high}
            rows.append({"dataset": dataset, "model": model, "bin": place, **found, **ends})
    columns = ["dataset", "model", "bin", "n", "score", "mos", "mos_low", "mos_high"]
    return pd.DataFrame(rows, columns=columns)


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of (n,) with its 95% interval by the standard error; NaN ends for n < 2."""
    mean = float(values.mean())
    reach = 1.96 * values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return mean, mean - reach, mean + reach


def _groups(table: pd.DataFrame) -> pd.Series | None:
    """Groups to be resampled whole; ``None`` if images are resampled singly."""
    return table["group"] if (table["group"] != "").all() else None
