"""Figures for notebooks and run folders: tables in, plotly figures out; readable at 900 pixels."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .. import metrics
from .contact_sheet import contact_sheet, pick, pictures
from .evaluation_figures import (
    agreement_intervals,
    cross_matrix,
    difference_matrix,
    error_panels,
    robustness_bars,
    score_panels,
)
from .experiment_figures import (
    learning_curve,
    rate_lines,
    speed_bars,
    stage_bars,
    two_scores,
    variant_intervals,
    variants_by_tap,
)
from .overlays import map_sheet, overlay
from .probe_figures import (
    channel_strip,
    curves_by_timestep,
    heatmap,
    label_curves,
    photograph_scatter,
    similarity,
)
from .style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, TEMPLATE, escaped, require, save

__all__ = [
    "agreement_intervals",
    "channel_strip",
    "contact_sheet",
    "cross_matrix",
    "curves_by_timestep",
    "difference_matrix",
    "error_panels",
    "heatmap",
    "label_curves",
    "learning_curve",
    "map_sheet",
    "overlay",
    "photograph_scatter",
    "pick",
    "pictures",
    "predicted_against_mos",
    "rate_lines",
    "robustness_bars",
    "save",
    "score_panels",
    "similarity",
    "speed_bars",
    "stage_bars",
    "training_curves",
    "two_scores",
    "variant_intervals",
    "variants_by_tap",
]

_SPLITS = {"train": GREY, "val": ORANGE, "test": BLUE}


def training_curves(history: pd.DataFrame) -> go.Figure:
    """Training loss above, validation SRCC and PLCC below, by step, with the best step marked.

    ``history``: column step, and optionally loss, val_srcc, val_plcc and learning_rate, with NaN
    where a row lacks them. The loss axis is logarithmic where the losses span more than a
    factor of 10. Raises LabError if there is no column step.
    """
    require(history, "step")
    specs = [[{"secondary_y": True}], [{}]]
    figure = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.07, specs=specs)
    for column, name, colour, dash, position in (
        ("loss", "training loss", BLUE, "solid", {"row": 1}),
        ("learning_rate", "learning rate", GREY, "dot", {"row": 1, "secondary_y": True}),
        ("val_srcc", "validation SRCC", ORANGE, "solid", {"row": 2}),
        ("val_plcc", "validation PLCC", GREEN, "dash", {"row": 2}),
    ):
        table = _present(history, column)
        if len(table):
            line = {"color": colour, "dash": dash, "width": 2}
            # A line of one point is invisible.
            mode = "lines+markers" if len(table) < 50 and column != "learning_rate" else "lines"
            trace = go.Scatter(x=table["step"], y=table[column], name=name, mode=mode, line=line)
            figure.add_trace(trace, col=1, **position)
    title = "Training loss, and agreement with MOS on validation"
    srcc = _present(history, "val_srcc")
    if len(srcc):
        best = srcc.loc[srcc["val_srcc"].idxmax()]
        title += f": best SRCC {metrics.format_metric(best['val_srcc'])} at step {best['step']:.0f}"
        figure.add_vline(best["step"], line={"color": INK, "dash": "dot", "width": 1.5})
        star = {"symbol": "star", "size": 15, "color": ORANGE, "line": {"color": INK, "width": 1}}
        point = {"x": [best["step"]], "y": [best["val_srcc"]], "name": "best step"}
        figure.add_trace(go.Scatter(**point, mode="markers", marker=star), row=2, col=1)
    else:  # a panel without a trace is not drawn at all
        figure.add_trace(go.Scatter(x=[None], y=[None], showlegend=False), row=2, col=1)
        centre = {"xref": "x2 domain", "yref": "y3 domain", "x": 0.5, "y": 0.5}
        figure.add_annotation(text="no SRCC on validation yet", showarrow=False, **centre)
        figure.update_yaxes(range=(0, 1), row=2)
    loss = _present(history, "loss")
    if len(loss) and 0 < 10 * loss["loss"].min() < loss["loss"].max():
        figure.update_yaxes(type="log", dtick="D2", tickformat="~g", row=1, secondary_y=False)
    figure.update_xaxes(title="Training step", row=2)
    figure.update_yaxes(title="Training loss", row=1, secondary_y=False)
    figure.update_yaxes(title="Correlation (at most 1)", row=2)
    rate = {"title": "Learning rate", "showgrid": False, "exponentformat": "e", "nticks": 6}
    figure.update_yaxes(**rate, tickmode="auto", rangemode="tozero", row=1, secondary_y=True)
    legend = {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"}
    margin = {"l": 75, "r": 85, "t": 90, "b": 60}
    figure.update_layout(template=TEMPLATE, title=title, legend=legend, height=620, margin=margin)
    return figure


def predicted_against_mos(predictions: pd.DataFrame, logistic: bool = True) -> go.Figure:
    """MOS against predicted score, a point per photograph and a colour per split.

    ``predictions``: columns name, mos, score and split. The legend gives SRCC and PLCC by split;
    with ``logistic`` each split's fitted curve is drawn, and PLCC is computed after it. Raises
    LabError for missing columns and for scores that are not finite.
    """
    require(predictions, "name", "mos", "score", "split")
    figure, curves = go.Figure(), []
    # Thousands of points are too slow as SVG.
    kind = go.Scattergl if len(predictions) > 5000 else go.Scatter
    for split, colour in _coloured(predictions["split"]):
        table = predictions[predictions["split"] == split]
        score, mos = table["score"].to_numpy(float), table["mos"].to_numpy(float)
        mapped = score
        if logistic:
            curve = metrics.fit_logistic(score, mos)
            mapped = curve(score) if curve.fitted else None
            if curve.fitted:
                x = np.linspace(score.min(), score.max(), 200)
                curves.append((x, curve(x), str(split), colour))
        srcc = metrics.format_metric(metrics.srcc(score, mos))
        plcc = metrics.format_metric(float("nan") if mapped is None else metrics.plcc(mapped, mos))
        figure.add_trace(
            kind(
                x=score,
                y=mos,
                mode="markers",
                name=f"{escaped(split)}: SRCC {srcc}, PLCC {plcc}, n = {len(table)}",
                legendgroup=str(split),
                text=[escaped(name) for name in table["name"]],
                hovertemplate="%{text}<br>score %{x:.4g}<br>MOS %{y:.4g}<extra></extra>",
                marker={"color": colour, "size": 6, "opacity": 0.5},
            )
        )
    for x, y, split, colour in curves:  # on top of all points, with a white outline
        for width, shade in ((6, "white"), (3, colour)):
            line = {"color": shade, "width": width}
            trace = kind(x=x, y=y, mode="lines", line=line, legendgroup=split)
            figure.add_trace(trace.update(showlegend=False, hoverinfo="skip"))
    after = ", with the fitted logistic (PLCC is after it)" if logistic else ""
    return figure.update_layout(
        template=TEMPLATE,
        title=f"Predicted score against MOS{after}",
        xaxis_title="Predicted score",
        yaxis_title="Mean opinion score, MOS (higher is better)",
        legend={"x": 0.99, "xanchor": "right", "y": 0.02, "bgcolor": "rgba(255,255,255,0.85)"},
        showlegend=True,
        height=620,
        margin={"l": 75, "r": 30, "t": 60, "b": 60},
    )


def _present(history: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows with a number in ``column``, by step; none without that column."""
    table = history.reindex(columns=["step", column]).apply(pd.to_numeric)
    return table.dropna().sort_values("step", ignore_index=True)


def _coloured(splits: pd.Series) -> Iterator[tuple[object, str]]:
    """Each split and its colour, the standard splits first."""
    found = list(splits.unique())
    known = [split for split in _SPLITS if split in found]
    others = [split for split in found if split not in _SPLITS]
    for place, split in enumerate(known + others):
        yield split, _SPLITS.get(split) or (GREEN, PURPLE)[place % 2]
