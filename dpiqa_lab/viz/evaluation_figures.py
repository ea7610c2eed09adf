"""Figures of notebook 05 and its report, from the tables of ``evaluate``."""

from collections.abc import Callable
from itertools import cycle

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..core.errors import LabError
from ..evaluation.agreement import fitted_curve
from ..evaluation.error_analysis import TRAITS
from .probe_figures import heatmap
from .style import BLUE, COLOURS, GREY, INK, ORANGE, TEMPLATE, escaped, require

_MARGIN = {"l": 75, "r": 30, "t": 80, "b": 60}
_NAMES = {
    "srcc": "SRCC",
    "krcc": "KRCC",
    "plcc": "PLCC, raw",
    "plcc_logistic": "PLCC, after the logistic",
    "rmse": "RMSE, raw",
    "rmse_logistic": "RMSE, after the logistic",
}


def agreement_intervals(results: pd.DataFrame, dataset: str, metric: str = "srcc") -> go.Figure:
    """``metric`` of every model on a dataset with its 95% interval, a colour per subset.

    ``results``: the table ``agreement``. Raises LabError for a dataset that it lacks.
    """
    rows = _of(results, dataset, metric)
    figure = go.Figure()
    subsets = list(dict.fromkeys(rows["subset"]))
    for place, subset in enumerate(subsets):
        part = rows[rows["subset"] == subset]
        figure.add_trace(
            go.Scatter(
                x=part[metric],
                y=[escaped(name) for name in part["model"]],
                mode="markers",
                name=escaped(subset),
                marker={"color": COLOURS[place % len(COLOURS)], "size": 10},
                error_x=_bars(part, metric),
                customdata=np.c_[part[f"{metric}_low"], part[f"{metric}_high"], part["n"]],
                hovertemplate="%{y}<br>%{x:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f}), "
                "n = %{customdata[2]}<extra></extra>",
            )
        )
    if len(subsets) > 1:  # side by side instead of overlapping
        figure.update_layout(scattermode="group", scattergap=0.4)
    figure.update_yaxes(autorange="reversed", type="category")
    return figure.update_layout(
        template=TEMPLATE,
        title=f"{_NAMES[metric]} on {escaped(dataset)}, 95% intervals",
        xaxis_title=_NAMES[metric],
        showlegend=len(subsets) > 1,
        height=170 + 34 * rows["model"].nunique() * max(1, len(subsets) * 0.7),
        margin=_MARGIN,
    )


def difference_matrix(differences: pd.DataFrame, dataset: str) -> go.Figure:
    """Row minus column for each pair; a star where the paired interval excludes 0."""
    rows = _of(differences, dataset, "difference")
    names = list(dict.fromkeys([*rows["a"], *rows["b"]]))
    place = {name: i for i, name in enumerate(names)}
    values = np.full((len(names), len(names)), np.nan)
    text, hover = (np.full(values.shape, "", dtype=object) for _ in range(2))
    for row in rows.itertuples():
        for a, b, sign in ((row.a, row.b, 1), (row.b, row.a, -1)):
            low, high = sorted((sign * row.low, sign * row.high))
            cell = place[a], place[b]
            values[cell] = sign * row.difference
            text[cell] = f"{sign * row.difference:+.3f}{'*' if row.differs else ''}"
            hover[cell] = f"{low:+.3f} to {high:+.3f}"
    largest = np.nanmax(np.abs(values)) if np.isfinite(values).any() else 1
    shown = [escaped(name) for name in names]
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=shown,
            y=shown,
            text=text,
            texttemplate="%{text}",
            customdata=hover,
            hovertemplate="%{y} minus %{x}<br>%{z:+.3f} (%{customdata})<extra></extra>",
            colorscale=[(0, ORANGE), (0.5, "#FFFFFF"), (1, "#56B4E9")],
            zmin=-largest,
            zmax=largest,
            colorbar={"title": "difference"},
        )
    )
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False, autorange="reversed")
    return figure.update_layout(
        template=TEMPLATE,
        title=f"SRCC on {escaped(dataset)}: row minus column (* interval excludes 0)",
        height=200 + 44 * len(names),
        margin=_MARGIN,
    )


def cross_matrix(cross: pd.DataFrame, metric: str = "srcc") -> go.Figure:
    """Runs with their training dataset (rows) by test dataset (columns)."""
    require(cross, "model", "trained_on", "tested_on", metric)
    run = cross["model"] + " (trained on " + cross["trained_on"] + ")"
    table = cross.assign(**{"trained on": run, "tested on": cross["tested_on"]})
    title = f"{_NAMES[metric]}: trained on (row), tested on (column)"
    return heatmap(table, "tested on", "trained on", title, metric, _NAMES[metric])


def score_panels(
    scores: pd.DataFrame, calibration: pd.DataFrame, results: pd.DataFrame, dataset: str
) -> go.Figure:
    """Score against MOS, a panel per model: photographs, fitted logistic, mean MOS of each bin.

    The dotted diagonal is drawn where scores are on the scale of the MOS.
    Tables: scores, calibration and agreement.
    """
    here = _of(scores, dataset, "score")
    whole = results[(results["dataset"] == dataset) & (results["subset"] == "all")]
    scale = dict(zip(whole["model"], whole["scale"], strict=True))
    models = list(dict.fromkeys(here["model"]))
    titles = [escaped(name) for name in models]
    figure, place = _panels(titles)
    kind = go.Scattergl if len(here) > 5000 else go.Scatter
    for i, model in enumerate(models):
        points = here[here["model"] == model]
        score, mos = points["score"].to_numpy(float), points["mos"].to_numpy(float)
        figure.add_trace(
            kind(
                x=score,
                y=mos,
                mode="markers",
                marker={"color": BLUE, "size": 5, "opacity": 0.35},
                text=[escaped(name) for name in points["name"]],
                hovertemplate="%{text}<br>score %{x:.4g}<br>MOS %{y:.3g}<extra></extra>",
            ),
            **place(i),
        )
        x = np.linspace(score.min(), score.max(), 100)
        curve, _ = fitted_curve(score, mos)
        lines = [(x, curve(x), INK, "solid")] if curve.fitted else []
        if scale.get(model) == "same":
            lines.append((np.array([0, 1]), np.array([0, 1]), GREY, "dot"))
        for across, up, colour, dash in lines:
            line = {"color": colour, "width": 2, "dash": dash}
            trace = go.Scatter(x=across, y=up, mode="lines", line=line, hoverinfo="skip")
            figure.add_trace(trace, **place(i))
        bins = calibration[(calibration["dataset"] == dataset) & (calibration["model"] == model)]
        figure.add_trace(
            go.Scatter(
                x=bins["score"],
                y=bins["mos"],
                mode="markers",
                marker={"color": ORANGE, "size": 10, "line": {"color": INK, "width": 1}},
                error_y=_bars(bins, "mos"),
                customdata=bins["n"],
                hovertemplate="%{customdata} photographs<br>mean score %{x:.4g}<br>"
                "mean MOS %{y:.3f}<extra></extra>",
            ),
            **place(i),
        )
    figure.update_xaxes(title="Score")
    figure.update_yaxes(title="MOS (higher is better)", range=(-0.05, 1.05))
    return figure.update_layout(title=f"Score against MOS on {escaped(dataset)}", showlegend=False)


def error_panels(errors: pd.DataFrame, dataset: str) -> go.Figure:
    """Mean distance from MOS by trait, a panel per trait, a line per model.

    A trait with one value for all photographs has one point. ``errors``: the table of that name.
    """
    rows = _of(errors, dataset, "distance")
    figure, place = _panels([title[0].upper() + title[1:] for title in TRAITS.values()])
    for colour, (model, part) in zip(
        cycle(COLOURS), rows.groupby("model", sort=False), strict=False
    ):
        for i, trait in enumerate(TRAITS):
            table = part[part["trait"] == trait]
            figure.add_trace(
                go.Scatter(
                    x=table["at"],
                    y=table["distance"],
                    mode="lines+markers",
                    name=escaped(model),
                    legendgroup=model,
                    showlegend=i == 0,
                    line={"color": colour, "width": 2},
                    error_y={**_bars(table, "distance"), "width": 2},
                    customdata=np.c_[table["bias"], table["n"]],
                    hovertemplate=escaped(model) + "<br>at %{x:.3g}: %{y:.3f}, bias "
                    "%{customdata[0]:+.3f}, n = %{customdata[1]}<extra></extra>",
                ),
                **place(i),
            )
    figure.update_yaxes(title="Mean distance", rangemode="tozero")
    legend = {"orientation": "h", "x": 0, "y": -0.1, "yanchor": "top"}
    title = f"Distance from MOS after the logistic, on {escaped(dataset)}"
    return figure.update_layout(title=title, legend=legend)


def robustness_bars(robustness: pd.DataFrame, dataset: str) -> go.Figure:
    """Mean move of the score by perturbation, in standard deviations; SRCC on the bars."""
    rows = _of(robustness, dataset, "moved")
    figure = go.Figure()
    for colour, (model, part) in zip(
        cycle(COLOURS), rows.groupby("model", sort=False), strict=False
    ):
        figure.add_trace(
            go.Bar(
                x=part["change"],
                y=part["moved"],
                name=escaped(model),
                marker_color=colour,
                text=[f"{value:.2f}" for value in part["srcc"]],
                textposition="outside",
                customdata=np.c_[part["shift"], part["srcc"], part["n"]],
                hovertemplate=escaped(model)
                + "<br>%{x}: moved %{y:.3f}, shift %{customdata[0]:+.3f}"
                "<br>SRCC before and after %{customdata[1]:.3f}, n = %{customdata[2]}"
                "<extra></extra>",
            )
        )
    return figure.update_layout(
        template=TEMPLATE,
        title=f"How far a change moves the score, on {escaped(dataset)} (on the bars: SRCC)",
        yaxis_title="Mean move, in standard deviations",
        barmode="group",
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": -0.12, "yanchor": "top"},
        height=480,
        margin=_MARGIN,
    )


def _of(table: pd.DataFrame, dataset: str, column: str) -> pd.DataFrame:
    require(table, "dataset", column)
    rows = table[(table["dataset"] == dataset) & table[column].notna()]
    if not len(rows):
        raise LabError(f"no {column} of any model on {dataset!r} to draw: see its errors.")
    return rows


def _bars(table: pd.DataFrame, column: str) -> dict:
    return {
        "array": table[f"{column}_high"] - table[column],
        "arrayminus": table[column] - table[f"{column}_low"],
        "thickness": 1.5,
        "color": GREY if column == "mos" else None,
    }


def _panels(titles: list[str]) -> tuple[go.Figure, Callable[[int], dict[str, int]]]:
    """A figure with at most three panels per row, and the row and column of each panel."""
    columns = min(3 if len(titles) != 4 else 2, len(titles))
    rows = -(-len(titles) // columns)
    spacing = {"vertical_spacing": min(0.16, 0.5 / rows), "horizontal_spacing": 0.09}
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=titles, **spacing)
    figure.update_layout(template=TEMPLATE, height=130 + 310 * rows, margin=_MARGIN)
    return figure, lambda i: {"row": i // columns + 1, "col": i % columns + 1}
