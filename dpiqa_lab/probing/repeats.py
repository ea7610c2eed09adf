"""The probe on repeated random splits."""

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
import pandas as pd

from .. import metrics
from ..core.errors import LabError
from ..core.progress import progress_bar
from ..datasets.split_schemes import SPLITS, assign_split
from ..ridge import fit_ridge
from .features import Features
from .probe import concat_features

_MIN_LABELS = 3  # per split, whatever the share of labels


def numbered_splits(table: pd.DataFrame, splits: int = 10, seed: int = 0) -> list[pd.Series]:
    """Random splits 70/10/20 with the seeds ``seed``, ``seed + 1``, …; groups are not divided.

    Args:
        table: of a dataset; its column split is ignored.

    Raises:
        LabError: fewer than one split, or too few images (or groups) for three splits.
    """
    if splits < 1:
        raise LabError(f"splits must be at least 1, got {splits}.")
    return [assign_split(table, "random", seed + i)[0] for i in range(splits)]


def repeat_probe(
    x: np.ndarray, table: pd.DataFrame, splits: Sequence[pd.Series], share: float = 1.0
) -> pd.DataFrame:
    """``fit_ridge`` on features x (n, k) for each split, tested on its test images.

    Args:
        table: of the same n images, with ``mos``.
        share: fraction of the train and val labels used, in (0, 1], drawn by the split's number;
            smaller fractions are subsets of larger ones.

    Returns:
        A row per split: split, labels (train and val images used), n (test images), alpha,
        val_srcc, srcc, plcc.
    """
    mos = table["mos"].to_numpy(float)
    rows = []
    for number, assigned in enumerate(splits):
        at = {split: np.flatnonzero((assigned == split).to_numpy()) for split in SPLITS}
        for split in ("train", "val"):
            order = np.random.default_rng(number).permutation(at[split])
            at[split] = order[: max(_MIN_LABELS, round(share * len(order)))]
        train, val, test = (at[split] for split in SPLITS)
        model = fit_ridge(x[train], mos[train], x[val], mos[val])
        score = model.predict(x[test])
        rows.append(
            {
                "split": number,
                "labels": len(train) + len(val),
                "n": len(test),
                "alpha": float(model["ridge"].alpha),
                "val_srcc": metrics.srcc(model.predict(x[val]), mos[val]),
                "srcc": metrics.srcc(score, mos[test]),
                "plcc": metrics.plcc(score, mos[test]),
            }
        )
    return pd.DataFrame(rows)


def probe_grid(
    features: Features,
    splits: Sequence[pd.Series],
    statistics: Iterable[Sequence[str]] = (("mean", "std"),),
    timesteps: Sequence[int] | None = None,
    together: bool = True,
) -> pd.DataFrame:
    """``repeat_probe`` for every timestep, tap and set of statistics.

    Args:
        statistics: sets of poolings to concatenate, as ``[("mean",), ("mean", "std")]``.
        timesteps: some of those extracted; ``None``: all.
        together: also all taps concatenated, as tap "all".

    Returns:
        Columns timestep, tap, statistic (as "mean+std"), and those of ``repeat_probe``.
    """
    taps = [*features.taps, *(["all"] if together and len(features.taps) > 1 else [])]
    cells = list(product(timesteps or features.timesteps, taps, statistics))
    tables = []
    for timestep, tap, poolings in progress_bar(cells, "probing"):
        x = concat_features(features, timestep, None if tap == "all" else tap, poolings)
        found = repeat_probe(x, features.table, splits)
        where = {"timestep": timestep, "tap": tap, "statistic": "+".join(poolings)}
        tables.append(found.assign(**where))
    rows = pd.concat(tables, ignore_index=True)
    first = ["timestep", "tap", "statistic"]
    return rows[[*first, *rows.columns.drop(first)]]


def label_curve(
    x: np.ndarray,
    table: pd.DataFrame,
    splits: Sequence[pd.Series],
    shares: Sequence[float] = (0.1, 0.3, 1.0),
) -> pd.DataFrame:
    """``repeat_probe`` with fractions of the labels: its rows, with a column share."""
    if bad := [share for share in shares if not 0 < share <= 1]:
        raise LabError(f"shares of the labels must be above 0 and at most 1, got {bad}.")
    tables = [repeat_probe(x, table, splits, share).assign(share=share) for share in shares]
    return pd.concat(tables, ignore_index=True)


def summarize_probes(rows: pd.DataFrame, by: Sequence[str] = ("timestep", "tap")) -> pd.DataFrame:
    """Median and central 95% range over splits, a row for each value of ``by``.

    The test images of random splits overlap, so results on new images may lie outside the range.

    Returns:
        ``by``, splits, labels and n (medians), and srcc and
        plcc with ``_low`` and ``_high``.
    """
    grouped = rows.groupby(list(by), sort=False)
    columns = {"splits": grouped["split"].size()}
    columns |= {name: grouped[name].median() for name in ("labels", "n")}
    for name in ("srcc", "plcc"):
        columns[name] = grouped[name].median()
        columns[f"{name}_low"] = grouped[name].quantile(0.025)
        columns[f"{name}_high"] = grouped[name].quantile(0.975)
    return pd.DataFrame(columns).reset_index()


def chosen_on_val(rows: pd.DataFrame) -> pd.DataFrame:
    """For each split the row with the highest SRCC on val."""
    ordered = rows.sort_values("val_srcc", ascending=False, kind="stable", na_position="last")
    return ordered.groupby("split").head(1).sort_values("split", ignore_index=True)


def best_on_val(rows: pd.DataFrame, by: Sequence[str] = ("timestep", "tap")) -> tuple:
    """The ``by`` with the highest median SRCC on val over splits; the first if tied."""
    medians = rows.groupby(list(by), sort=False)["val_srcc"].median().fillna(-2)
    return medians.idxmax()
