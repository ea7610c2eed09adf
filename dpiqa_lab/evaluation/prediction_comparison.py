"""Two runs on the same photographs: who is better, and is the difference more than chance?"""

import numpy as np
import pandas as pd

from .. import metrics
from ..core.errors import LabError
from ..core.runs import find_run

METRICS = ("srcc", "plcc", "rmse")


def shared_predictions(run_a: str, run_b: str) -> pd.DataFrame:
    """Test photographs that both runs scored: name, mos, score_a, score_b, and group where known.

    Raises:
        LabError: no such run, one without predictions, none shared, or another MOS for the same
            name, as from another dataset or score scale.
    """
    tables = []
    for name in (run_a, run_b):
        run = find_run(name)
        if not (run.path / "predictions.csv").is_file():
            raise LabError(f"run {run.name} has no predictions: it is unfinished, or no teacher's.")
        table = run.predictions()
        tables.append(table[table["split"] == "test"])
    a, b = tables
    kept = [name for name in ("group",) if name in a]
    shared = a[["name", "mos", "score", *kept]].merge(
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
    """Metrics of both, and the difference with its paired 95% bootstrap interval.

    ``shared``: as ``shared_predictions`` gives it. A row a metric: metric, a, b, difference (a
    less b), low, high, differs (whether the interval is without 0).
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
