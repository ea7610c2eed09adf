"""Metrics of a run's predictions, by split and by subset."""

import pandas as pd

from .. import metrics


def validation_metrics(table: pd.DataFrame) -> dict[str, float]:
    """srcc, plcc and rmse of the columns score and mos."""
    score, mos = table["score"], table["mos"]
    return {
        "srcc": metrics.srcc(score, mos),
        "plcc": metrics.plcc(score, mos),
        "rmse": metrics.rmse(score, mos),
    }


def part_metrics(predictions: pd.DataFrame, train: pd.DataFrame | None = None) -> dict:
    """``metrics.summary`` of every part, and where the dataset has subsets what they account for.

    Args:
        predictions: name, mos, score, split, and where known subset and group.
        train: mos and subset of the train part.

    Returns:
        By part; with subsets each has ``subsets``, a summary each, ``within_subsets`` (srcc and
        plcc with intervals, see ``metrics.within_subsets``) and, by ``train``, ``subset_oracle``,
        what the subset alone predicts.
    """
    result = {}
    for part, rows in predictions.groupby("split"):
        result[part] = _summary(rows)
        if "subset" in rows:
            subsets = {name: _summary(some) for name, some in rows.groupby("subset")}
            result[part] |= {"subsets": subsets, "within_subsets": _within(rows)}
            if train is not None:
                means = metrics.subset_means(rows["subset"], train["mos"], train["subset"])
                result[part]["subset_oracle"] = metrics.subset_oracle(
                    means, rows["mos"], rows.get("group")
                )
    return result


def metrics_line(found: dict) -> str:
    """The metrics of a part in a line, for a terminal."""
    line = (
        f"SRCC {metrics.format_metric(found['srcc'])}, PLCC {metrics.format_metric(found['plcc'])}"
    )
    if within := found.get("within_subsets"):
        line += f", SRCC within subsets {metrics.format_metric(within['srcc'])}"
    if oracle := found.get("subset_oracle"):
        line += f" (the subset alone gives {metrics.format_metric(oracle['srcc'])} over all)"
    return f"{line}, n {found['n']}"


def _summary(rows: pd.DataFrame) -> dict:
    return metrics.summary(rows["score"], rows["mos"], groups=rows.get("group"))


def _within(rows: pd.DataFrame) -> dict:
    score, mos, subsets = rows["score"], rows["mos"], rows["subset"]
    found: dict[str, object] = {"n": len(rows)}
    for name, ends in metrics.bootstrap(
        score, mos, groups=rows.get("group"), within=subsets
    ).items():
        found[name] = metrics.within_subsets(score, mos, subsets, name)
        found[f"{name}_ci"] = list(ends)
    return found
