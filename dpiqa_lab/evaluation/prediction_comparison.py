"""Paired comparison of two runs on the same images."""

import numpy as np
import pandas as pd

from .. import metrics
from ..core.errors import LabError
from ..core.runs import find_run

METRICS = ("srcc", "plcc", "rmse")


def shared_predictions(run_a: str, run_b: str) -> pd.DataFrame:
    """Test images scored by both runs: name, mos, score_a, score_b, and group if known.

    Raises:
        LabError: no such run, a run without predictions, no shared images, or different MOS (other
            dataset or score scale).
    """
    tables = []
    for name in (run_a, run_b):
        run = find_run(name)
        if not (run.path / "predictions.csv").is_file():
            raise LabError(f"run {run.name} has no predictions: it is unfinished, or no teacher's.")
        table = run.predictions()
        tables.append(table[table["split"] == "test"])
    a, b = tables
    group = ["group"] if "group" in a else []
    shared = a[["name", "mos", "score", *group]].merge(
        b[["name", "mos", "score"]], on="name", suffixes=("_a", "_b")
    )
    if not len(shared):
        raise LabError(f"runs {run_a} and {run_b} share no test photograph: their splits differ.")
    other = shared[(shared["mos_a"] - shared["mos_b"]).abs() > 1e-6]
    if len(other):
        row = other.iloc[0]
        raise LabError(
            f"{row['name']} has MOS {row.mos_a:.4g} in run {run_a} and {row.mos_b:.4g} in run "
            f"{run_b}: they were trained on other datasets or score scales."
        )
    return shared.rename(columns={"mos_a": "mos"}).drop(columns="mos_b")


def compare_predictions(shared: pd.DataFrame, resamples: int = 1000) -> pd.DataFrame:
    """Metrics of both runs, and their difference with its paired 95% bootstrap interval.

    ``shared``: see ``shared_predictions``. A row per metric: metric, a, b, difference (a - b), low,
    high, differs (whether the interval excludes 0).
    """
    rows = []
    a, b, mos = (shared[name].to_numpy(float) for name in ("score_a", "score_b", "mos"))
    for metric in METRICS:
        difference, low, high = metrics.bootstrap_difference(
            a, b, mos, metric, resamples, groups=shared.get("group")
        )
        value = getattr(metrics, metric)
        rows.append(
            {
                "metric": metric,
                "a": value(a, mos),
                "b": value(b, mos),
                "difference": difference,
                "low": low,
                "high": high,
                "differs": bool(np.isfinite(low) and (low > 0 or high < 0)),
            }
        )
    return pd.DataFrame(rows)
