"""An evaluation as one page: figures, tables and photographs in a file that opens offline."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

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

# A kind that the template knows (h2, h3, p, note, failed, table, figure), and what it shows.
Block = tuple[str, str | pd.DataFrame | go.Figure]
_SHORT = {"srcc": "SRCC", "krcc": "KRCC", "plcc": "PLCC raw", "plcc_logistic": "PLCC logistic",
          "rmse": "RMSE raw", "rmse_logistic": "RMSE logistic"}  # fmt: skip
_SUBSETS = {"within_srcc": "SRCC within subsets", "oracle_srcc": "SRCC of subset means"}
_READING = {
    "agreement": "Each point is a model's SRCC, each bar its 95% bootstrap interval. Overlapping "
    "bars do not say that two models are equal: see the differences, which are paired.",
    "differences": "Row less column. A star says that the interval of the paired difference is "
    "without 0. Each pair is judged for itself: of twenty pairs that are equal, one gets a star, "
    "and more do where there are few contents.",
    "panels": "Points are photographs, the curve is the fitted logistic, orange marks are the mean "
    "MOS of photographs with about the same score. Marks on the dotted diagonal: the score is the "
    "MOS to expect. Marks that rise but leave it: a good order, on a bent scale.",
    "errors": "Mean distance from MOS after the logistic. A model that draws all scores to the "
    "middle errs at both ends of MOS; a line that rises with another trait is a weakness.",
    "robustness": "Mirrored, at 75% of its size, as JPEG of quality 75, without its outer 10%: a "
    "person would hardly judge otherwise. The height is how far the score moves, in standard "
    "deviations over the dataset; the number is the SRCC between before and after.",
    "photographs": "Does the row of the best look better to you than that of the worst? The most "
    "wrong are furthest from MOS after the logistic. The last sheet has the photographs whose "
    "ranks by the models (0 worst, 1 best) are furthest apart.",
    "cross": "On the diagonal a model meets the kind of photographs and scores that it was trained "
    "on. How far it falls beside it is what another camera, subject or rating scale costs; compare "
    "with a model trained on the dataset of that column, not with 1. SRCC and PLCC after the "
    "logistic bear another scale, raw PLCC and RMSE do not.",
    "published": "Others' numbers, each by its own protocol: of one split beside a median of ten, "
    "differences of a hundredth say nothing.",
}


def write_report(run: Run | str | Path, shown: int | None = None) -> Path:
    """Write ``report.html`` into the folder of an evaluation's run; its path.

    Args:
        run: completed, see ``run_evaluation``.
        shown: photographs a row; ``None`` takes what the run's config says.

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
    """``agreement`` for reading: each metric as one text with its interval."""
    table = results[["dataset", "model", "subset", "n", "contents"]].copy()
    for metric, name in _SHORT.items():
        ends = zip(*(results[f"{metric}{end}"] for end in ("", "_low", "_high")), strict=True)
        table[name] = [_told(value, interval) for value, *interval in ends]
    for metric, name in _SUBSETS.items():
        # A table of an earlier version has none; most datasets have no subsets.
        if metric in results and results[metric].notna().any():
            ends = zip(*(results[f"{metric}{end}"] for end in ("", "_low", "_high")), strict=True)
            table[name] = [_told(value, ends) if value == value else "" for value, *ends in ends]
    return table.assign(logistic=results["logistic"])


def summary_table(rows: Mapping[str, Mapping[str, object]]) -> pd.DataFrame:
    """Metrics for reading: a row each, n, and each metric as one text with its interval.

    ``rows``: by what to call them, as ``metrics.summary`` gives them, or a run's summary.
    """
    known = {metric for values in rows.values() for metric in values}
    told = {
        row: {"n": values["n"]}
        | {
            name: _told(values[metric], values.get(f"{metric}_ci")) if metric in values else ""
            for metric, name in _SHORT.items()
            if metric in known
        }
        for row, values in rows.items()
    }
    return pd.DataFrame(told).T


def _told(value: float | None, interval: Sequence[float] | None) -> str:
    defined = value is not None and value == value
    ends = " ({:.3f} to {:.3f})".format(*interval) if defined and interval else ""
    return metrics.format_metric(value) + ends


def sheets(tables: dict[str, pd.DataFrame], dataset: str, n: int = 5) -> Iterator[go.Figure]:
    """Best, worst and most wrong photographs of each model, then the most disagreed ones.

    ``tables``: of ``evaluation_tables``. Raises LabError where a photograph is no longer there.
    """
    known = tables["photographs"]
    paths = known.loc[known["dataset"] == dataset, ["name", "path"]]
    here = tables["scores"].query("dataset == @dataset").merge(paths, on="name")
    for model, rows in here.groupby("model", sort=False):
        picked = pd.concat([pick(rows, kind, n) for kind in KINDS])
        title = f"{escaped(model)}: a row each of {', '.join(KINDS)}"
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
            continue  # every model failed, which is said above
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
        except LabError as error:  # moved since: the numbers are still worth a page
            yield "failed", f"no photographs: {error}"


def _results(results: pd.DataFrame) -> Iterator[Block]:
    yield "h2", "Results"
    yield "table", results_table(results[results["error"] == ""])
    yield (
        "p",
        "95% bootstrap intervals over the contents: photographs, or groups of those that share "
        "one. With fewer than about twenty contents they are too narrow to be trusted. A logistic "
        "that falls says that the scores run against MOS, which PLCC after it does not show. Where "
        "a dataset has subsets: the mean of SRCC within them, weighted by their photographs, and "
        "the SRCC over all of the mean MOS of each photograph's subset in train. A model that does "
        "no better than the latter may know no more than which subset a photograph is from.",
    )
    for row in results[results["subset"] == "all"].itertuples():
        where = f"{row.model} on {row.dataset}"
        if row.error:
            yield "failed", f"{where} FAILED: {row.error}"
        elif row.notes:
            yield "note", f"{where}: {row.notes}"


def _has(table: pd.DataFrame, dataset: str, column: str) -> bool:
    return bool(table.loc[table["dataset"] == dataset, column].notna().any())
