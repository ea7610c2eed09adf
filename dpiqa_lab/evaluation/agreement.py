"""How well models agree with MOS, which of them do better, and on which datasets: as tables.

``scores`` is always a row a dataset, model and photograph: dataset, model, name, mos, score, and
subset and group where known (empty where not), and where the dataset has subsets subset_mean, the
mean MOS of the photograph's subset in train.
"""

import itertools
import warnings

import numpy as np
import pandas as pd

from .. import metrics
from ..logistic import Logistic
from .published_results import published

# Beside the whole of a dataset with subsets.
SUBSETS = (
    "within_srcc", "within_srcc_low", "within_srcc_high",
    "oracle_srcc", "oracle_srcc_low", "oracle_srcc_high",
)  # fmt: skip
METRICS = ("srcc", "krcc", "plcc", "plcc_logistic", "rmse", "rmse_logistic")
_BINS = 10  # of a calibration, at most
_FEWEST = 5  # photographs a bin


def agreement(scores: pd.DataFrame, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Every metric with its 95% bootstrap interval, a row a dataset, model and subset.

    The subset "all" is the whole; rows of subsets follow where the dataset has any. ``contents`` is
    how many photographs, or groups of them, could be resampled: with few, intervals are too narrow
    to trust. ``logistic`` says what became of the curve behind the two metrics after it, see
    ``fitted_curve``: these are NaN where there is none. ``within_srcc`` and ``oracle_srcc``, of the
    whole of a dataset with subsets: see ``beside_subsets``.
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
    curve, said = fitted_curve(score, mos)
    groups = _groups(table)
    contents = len(table) if groups is None else groups.nunique()
    found = {"n": len(table), "contents": contents, "logistic": said}
    # The curve's failure stands in the table; the metrics would warn of it six times over.
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
    """What the subsets account for in one model's SRCC on a dataset, with intervals.

    ``within_srcc``: see ``metrics.within_subsets``. ``oracle_srcc``: that of ``subset_mean``, which
    knows nothing but the subset; NaN where it is not known.
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
    """The logistic from scores to MOS, and what became of it.

    "rising"; "falling", where scores run against MOS, so that a high PLCC after it is no merit; or
    why none could be fitted, in which case it is NaN everywhere.
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
    """Every pair of models on a dataset: by how much ``a`` does better than ``b``, and how surely.

    A row a dataset and pair: ``difference`` of ``metric`` (a less b) with its paired 95% bootstrap
    interval, and ``differs``, whether that is without 0. Intervals are of each pair for itself:
    among many pairs, one in twenty differs by chance.
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
    """Trained on by tested on: the whole-dataset rows of models whose training set is known.

    Args:
        results: ``agreement`` with the columns trained_on, scale and notes, as ``evaluate`` adds
            them.

    Returns:
        A row a model and dataset: trained_on, model, tested_on, n, srcc, plcc, plcc_logistic, rmse,
        rmse_logistic (with ``_low`` and ``_high``), scale, notes, error.
    """
    known = (results["trained_on"] != "") & (results["subset"] == "all")
    names = ("srcc", "plcc", "plcc_logistic", "rmse", "rmse_logistic")
    ends = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    table = results[known].rename(columns={"dataset": "tested_on"})
    table = table.sort_values(["trained_on", "model"], kind="stable", ignore_index=True)
    return table[["trained_on", "model", "tested_on", "n", *ends, "scale", "notes", "error"]]


def calibration(scores: pd.DataFrame) -> pd.DataFrame:
    """What MOS a score stands for: photographs in bins of equal number by their score.

    A row a dataset, model and bin: bin, n, mean score and mean mos, and mos_low and mos_high, the
    mean's 95% interval by its standard error.
    """
    rows = []
    for (dataset, model), part in scores.groupby(["dataset", "model"], sort=False):
        order = np.argsort(part["score"].to_numpy(), kind="stable")
        count = int(np.clip(len(part) // _FEWEST, 1, _BINS))
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


def beside_published(results: pd.DataFrame, part: str = "test") -> pd.DataFrame:
    """This evaluation's rows above what was published on the same dataset.

    ``results``: see ``cross_table``. A row a method: dataset, method, plcc (raw), srcc, protocol,
    source; datasets on which nothing was published have no rows.
    """
    tables = []
    for dataset, rows in results[results["subset"] == "all"].groupby("dataset", sort=False):
        others = published(dataset)
        if len(others):
            rows = rows[rows["error"] == ""].rename(columns={"model": "method"})
            here = rows[["method", "plcc", "srcc"]].assign(
                protocol=f"one split, its {part} part", source="this evaluation"
            )
            tables.append(pd.concat([here, others]).assign(dataset=dataset))
    columns = ["dataset", "method", "plcc", "srcc", "protocol", "source"]
    return (
        pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)
    )


def _groups(table: pd.DataFrame) -> pd.Series | None:
    """What cannot be resampled apart; ``None`` where every photograph stands for itself."""
    return table["group"] if (table["group"] != "").all() else None
