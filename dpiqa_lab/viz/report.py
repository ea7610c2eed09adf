"""An evaluation report: figures, tables and photographs in one HTML file that opens offline."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from .. import metrics
from ..core.errors import LabError
from ..core.files import write_text
from ..core.runs import Run, find_run
from ..evaluation.evaluate import evaluation_tables
from . import evaluation_figures as figures
from .contact_sheet import KINDS, contact_sheet, pick, pictures
from .pages import render
from .style import escaped

# A kind of the template (h2, h3, p, note, failed, table, figure), and its content.
Block = tuple[str, str | pd.DataFrame | go.Figure]
_SHORT = {"srcc": "SRCC", "krcc": "KRCC", "plcc": "PLCC raw", "plcc_logistic": "PLCC logistic",
          "rmse": "RMSE raw", "rmse_logistic": "RMSE logistic"}  # fmt: skip
_SUBSETS = {"within_srcc": "SRCC within subsets", "oracle_srcc": "SRCC of subset means"}
_READING = {
    "agreement": "Each point is a model's SRCC, each bar its 95% bootstrap interval. Overlapping "
    "bars do not mean that two models are equal: see the paired differences.",
    "differences": "Row minus column. A star means that the interval of the paired difference "
    "excludes 0. There is no correction for multiple comparisons: of twenty equal pairs, about one "
    "gets a star, and more do where there are few contents.",
    "panels": "Points are photographs, the curve is the fitted logistic, orange marks are the mean "
    "MOS of photographs with about the same score. Marks on the dotted diagonal: the score is the "
    "MOS to expect. Marks that rise but leave it: a good ranking on a distorted scale.",
    "errors": "Mean distance from MOS after the logistic. A model that pulls all scores to the "
    "middle has errors at both ends of MOS; a line that rises with another trait is a weakness.",
    "robustness": "Mirrored, at 75% of its size, as JPEG of quality 75, without its outer 10%: a "
    "viewer would hardly rate these differently. The height is how far the score moves, in "
    "standard deviations over the dataset; the number is the SRCC between before and after.",
    "photographs": "Does the row of the best look better to you than that of the worst? The most "
    "wrong are furthest from MOS after the logistic. The last sheet has the photographs whose "
    "ranks by the models (0 worst, 1 best) are furthest apart.",
    "cross": "On the diagonal a model is tested on the dataset that it was trained on. The loss "
    "beside it is the cost of other cameras, subjects and rating scales; compare with a model "
    "trained on the dataset of that column, not with 1. SRCC and PLCC after the logistic do not "
    "depend on the scale of the scores, raw PLCC and RMSE do.",
    "published": "Published numbers, each with its own protocol: between one split and a median of "
    "ten, a difference of 0.01 means nothing.",
}


def write_report(run: Run | str | Path, shown: int | None = None) -> Path:
    """Write ``report.html`` into the run folder of an evaluation and return its path.

    Args:
        run: completed, see ``run_evaluation``.
        shown: photographs per row; ``None`` takes the run's own setting.

    Raises:
        LabError: the run is no evaluation, or not completed.
    """
    run = run if isinstance(run, Run) else find_run(run)
    tables = evaluation_tables(run)
    shown = shown or run.config.get("shown", 5)
    summary = run.summary()
    blocks = [
        *(("p", text) for text in summary.get("datasets", {}).values()),
        *(("note", text) for text in summary.get("notes", [])),
        *_contents(tables, shown),
    ]
    path = run.path / "report.html"
    write_text(path, render("report.html", name=run.name, blocks=blocks))
    return path


def results_table(results: pd.DataFrame) -> pd.DataFrame:
    """``agreement`` formatted: each metric as text with its interval."""
    table = results[["dataset", "model", "subset", "n", "contents"]].copy()
    for metric, name in _SHORT.items():
        ends = zip(*(results[f"{metric}{end}"] for end in ("", "_low", "_high")), strict=True)
        table[name] = [_format(value, interval) for value, *interval in ends]
    for metric, name in _SUBSETS.items():
        # Absent in tables of earlier versions; most datasets have no subsets.
        if metric in results and results[metric].notna().any():
            ends = zip(*(results[f"{metric}{end}"] for end in ("", "_low", "_high")), strict=True)
            table[name] = [_format(value, ends) if value == value else "" for value, *ends in ends]
    return table.assign(logistic=results["logistic"])


def summary_table(rows: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Metrics formatted: n, and each metric as text with its interval.

    ``rows``: results of ``metrics.summary``, or a run's summary, by row name.
    """
    present = {metric for values in rows.values() for metric in values}
    formatted = {
        row: {"n": values["n"]}
        | {
            name: _format(values[metric], values.get(f"{metric}_ci")) if metric in values else ""
            for metric, name in _SHORT.items()
            if metric in present
        }
        for row, values in rows.items()
    }
    return pd.DataFrame(formatted).T


def _format(value: float | None, interval: Sequence[float] | None) -> str:
    defined = value is not None and value == value
    ends = " ({:.3f} to {:.3f})".format(*interval) if defined and interval else ""
    return metrics.format_metric(value) + ends


def sheets(tables: dict[str, pd.DataFrame], dataset: str, n: int = 5) -> Iterator[go.Figure]:
    """Best, worst and most wrong photographs of each model, then those ranked most differently.

    ``tables``: see ``evaluation_tables``. Raises LabError where a photograph is missing.
    """
    images = tables["photographs"]
    paths = images.loc[images["dataset"] == dataset, ["name", "path"]]
    here = tables["scores"].query("dataset == @dataset").merge(paths, on="name")
    for model, rows in here.groupby("model", sort=False):
        picked = pd.concat([pick(rows, kind, n) for kind in KINDS])
        title = f"{escaped(model)}: rows of {', '.join(KINDS)}"
        yield contact_sheet(picked, title, columns=min(n, len(rows)), thumb=160)
    apart = tables["disagreements"].query("dataset == @dataset").head(2 * n).merge(paths, on="name")
    if len(apart):
        captions = [
            f"{row.highest[:18]} {row.highest_rank:.2f}\n{row.lowest[:18]} {row.lowest_rank:.2f}"
            for row in apart.itertuples()
        ]
        hover = [f"{row.name}\nMOS {row.mos:.3g}" for row in apart.itertuples()]
        title = "Most disagreed: highest and lowest rank"
        yield pictures(list(apart["path"]), captions, title, n, 160, hover)


def _contents(tables: dict[str, pd.DataFrame], shown: int) -> Iterator[Block]:
    results = tables["agreement"]
    yield from _results(results)
    if tables["cross"]["srcc"].notna().sum() > 1:
        yield "h2", "Trained on one, tested on another"
        yield "p", _READING["cross"]
        for metric in ("srcc", "plcc_logistic"):
            yield "figure", figures.cross_matrix(tables["cross"], metric)
    for dataset in dict.fromkeys(results["dataset"]):
        if not results.loc[results["dataset"] == dataset, "n"].any():
            continue  # every model failed, as reported above
        yield "h2", dataset
        if _has(results, dataset, "srcc"):
            yield "p", _READING["agreement"]
            yield "figure", figures.agreement_intervals(results, dataset)
        if _has(tables["differences"], dataset, "difference"):
            yield "p", _READING["differences"]
            yield "figure", figures.difference_matrix(tables["differences"], dataset)
        others = tables["published"].query("dataset == @dataset").drop(columns="dataset")
        if len(others):
            yield "h3", "Beside published results"
            yield "p", _READING["published"]
            yield "table", others
        yield "p", _READING["panels"]
        yield (
            "figure",
            figures.score_panels(tables["scores"], tables["calibration"], results, dataset),
        )
        if _has(tables["errors"], dataset, "distance"):
            yield "p", _READING["errors"]
            yield "figure", figures.error_panels(tables["errors"], dataset)
        if _has(tables["robustness"], dataset, "moved"):
            yield "p", _READING["robustness"]
            yield "figure", figures.robustness_bars(tables["robustness"], dataset)
        yield "p", _READING["photographs"]
        try:
            for sheet in sheets(tables, dataset, shown):
                yield "figure", sheet
        except LabError as error:  # files were moved; the numbers remain valid
            yield "failed", f"no photographs: {error}"


def _results(results: pd.DataFrame) -> Iterator[Block]:
    yield "h2", "Results"
    yield "table", results_table(results[results["error"] == ""])
    yield (
        "p",
        "95% bootstrap intervals over contents: photographs, or groups of photographs of the same "
        "content. With fewer than about twenty contents they are too narrow. A falling logistic "
        "means that scores decrease with MOS, which PLCC after it does not show. Where a dataset "
        "has subsets: the mean SRCC within subsets, weighted by number of photographs, and the "
        "SRCC of each subset's mean MOS in train. A model that is no better than the latter may "
        "only recognise the subset of a photograph.",
    )
    for row in results[results["subset"] == "all"].itertuples():
        where = f"{row.model} on {row.dataset}"
        if row.error:
            yield "failed", f"{where} FAILED: {row.error}"
        elif row.notes:
            yield "note", f"{where}: {row.notes}"


def _has(table: pd.DataFrame, dataset: str, column: str) -> bool:
    return bool(table.loc[table["dataset"] == dataset, column].notna().any())
