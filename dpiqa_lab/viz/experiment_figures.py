"""Figures of notebooks 00, 04 and 07: the prior, distillation and speed."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, TEMPLATE, escaped, require

_KINDS = {
    "products": (BLUE, "matrix products, convolutions, attention"),
    "elementwise": (ORANGE, "norms, activations, sums"),
    "copies": (PURPLE, "copies and conversions"),
    "outside": (GREY, "Python, launches, waiting"),
}

_VARIANTS = (BLUE, GREY, ORANGE)
_MARGIN = {"l": 75, "r": 30, "t": 60, "b": 60}
_DASHES = {"float32": "solid", "bfloat16": "dash", "float16": "dot", "int8": "longdashdot"}


def stage_bars(stages: pd.DataFrame, title: str) -> go.Figure:
    """A bar per stage, in milliseconds per photograph, split by kind of operation.

    The diamond is the floor: the time of the stage's operations at the rate of a large matrix
    product. ``stages``: columns stage, seconds, floor, share, and the fractions products,
    elementwise, copies and outside. Raises LabError where one is missing.
    """
    require(stages, "stage", "seconds", "floor", "share", *_KINDS)
    names = [escaped(name) for name in stages["stage"]]
    figure = go.Figure()
    for kind, (colour, label) in _KINDS.items():
        figure.add_trace(
            go.Bar(
                y=names,
                x=1000 * stages["seconds"] * stages[kind],
                name=label,
                orientation="h",
                marker={"color": colour},
                customdata=stages[kind],
                hovertemplate="%{y}: %{x:.1f} ms, %{customdata:.0%}<extra>" + label + "</extra>",
            )
        )
    has_floor = stages["floor"] > 0
    figure.add_trace(
        go.Scatter(
            y=[name for name, given in zip(names, has_floor, strict=True) if given],
            x=1000 * stages["floor"][has_floor],
            name="floor",
            mode="markers",
            marker={"symbol": "diamond", "size": 11, "color": INK},
            customdata=stages["share"][has_floor],
            hovertemplate="%{y}: at best %{x:.1f} ms, %{customdata:.0%} of the time<extra></extra>",
        )
    )
    return _lying(figure, title, "stack", "Milliseconds per photograph", 220 + 44 * len(stages))


def speed_bars(ratios: pd.DataFrame, title: str) -> go.Figure:
    """Speed relative to the plain reference, a bar per comparison; the line is equality.

    ``ratios``: columns what, plain, lab and ratio. Raises LabError where one is missing.
    """
    require(ratios, "what", "plain", "lab", "ratio")
    figure = go.Figure()
    pairs = list(dict.fromkeys(zip(ratios["plain"], ratios["lab"], strict=True)))
    for (plain, lab), colour in zip(pairs, (BLUE, GREEN, ORANGE, PURPLE, GREY), strict=False):
        rows = ratios[(ratios["plain"] == plain) & (ratios["lab"] == lab)]
        figure.add_trace(
            go.Bar(
                y=[escaped(what) for what in rows["what"]],
                x=rows["ratio"],
                name=f"lab in {lab}, plain in {plain}",
                orientation="h",
                marker={"color": colour},
                text=[f"{ratio:.2f}" for ratio in rows["ratio"]],
                hovertemplate="%{y}: %{x:.2f} times<extra></extra>",
            )
        )
    figure.add_vline(1, line={"color": INK, "dash": "dot", "width": 1.5})
    axis = "Throughput relative to the plain reference"
    return _lying(figure, title, "group", axis, 260 + 30 * len(ratios))


def _lying(figure: go.Figure, title: str, mode: str, axis: str, height: int) -> go.Figure:
    """Layout of horizontal bars, the first row at the top."""
    figure.update_yaxes(type="category", autorange="reversed")
    return figure.update_layout(
        template=TEMPLATE,
        title=title,
        barmode=mode,
        xaxis_title=axis,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
        height=height,
        margin={"l": 110, "r": 30, "t": 110, "b": 60},
    )


def rate_lines(passes: pd.DataFrame, title: str) -> go.Figure:
    """Throughput by batch size, a line per pass, precision and compilation.

    ``passes``: columns what, precision, batch, compiled and rate (photographs per second). Raises
    LabError where one is missing.
    """
    require(passes, "what", "precision", "batch", "compiled", "rate")
    colours = dict(zip(passes["what"].unique(), (BLUE, GREEN, ORANGE, PURPLE), strict=False))
    figure = go.Figure()
    for (what, precision, compiled), rows in passes.groupby(
        ["what", "precision", "compiled"], sort=False
    ):
        name = f"{what}, {precision}{', compiled' if compiled else ''}"
        figure.add_trace(
            go.Scatter(
                x=rows["batch"],
                y=rows["rate"],
                name=escaped(name),
                mode="lines+markers",
                line={"color": colours[what], "dash": _DASHES[precision]},
                marker={"symbol": "diamond" if compiled else "circle", "size": 9},
                hovertemplate="batch of %{x}: %{y:.1f} per second<extra>"
                + escaped(name)
                + "</extra>",
            )
        )
    figure.update_xaxes(type="log", title="Batch size", tickvals=passes["batch"].unique())
    figure.update_yaxes(type="log", title="Photographs per second")
    return figure.update_layout(template=TEMPLATE, title=title, height=460)


def variant_intervals(
    table: pd.DataFrame, title: str, value: str = "srcc", label: str = "SRCC with MOS, test split"
) -> go.Figure:
    """A point per variant with its 95% interval, the first variant at the top.

    ``table``: columns variant, ``value``, ``<value>_low`` and ``<value>_high``; rows without a
    value are left out. Raises LabError where a column is missing.
    """
    require(table, "variant", value, f"{value}_low", f"{value}_high")
    rows = table.dropna(subset=[value])
    figure = go.Figure(
        go.Scatter(
            x=rows[value],
            y=[escaped(variant) for variant in rows["variant"]],
            mode="markers",
            marker={"size": 11, "color": BLUE},
            error_x={
                "array": rows[f"{value}_high"] - rows[value],
                "arrayminus": rows[value] - rows[f"{value}_low"],
                "thickness": 2,
                "width": 6,
            },
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
    )
    figure.update_yaxes(type="category", autorange="reversed")
    return figure.update_layout(
        template=TEMPLATE,
        title=title,
        xaxis_title=label,
        height=160 + 44 * len(rows),
        margin=_MARGIN,
    )


def two_scores(table: pd.DataFrame, x: str, y: str, title: str) -> go.Figure:
    """Scores of two models, a point per photograph coloured by MOS; the line is equality.

    ``table``: columns name, mos, x and y. Raises LabError where one is missing.
    """
    require(table, "name", "mos", x, y)
    ends = np.array([table[[x, y]].to_numpy(float).min(), table[[x, y]].to_numpy(float).max()])
    line = {"color": GREY, "dash": "dot", "width": 2}
    figure = go.Figure(go.Scatter(x=ends, y=ends, mode="lines", line=line, hoverinfo="skip"))
    marker = {
        "color": table["mos"],
        "colorscale": "Cividis",
        "size": 7,
        "opacity": 0.8,
        "line": {"color": INK, "width": 0.5},
        "colorbar": {"title": "MOS"},
    }
    figure.add_trace(
        go.Scatter(
            x=table[x],
            y=table[y],
            mode="markers",
            marker=marker,
            text=[escaped(name) for name in table["name"]],
            customdata=table["mos"],
            hovertemplate="%{text}<br>MOS %{customdata:.3g}<br>%{x:.3f}, %{y:.3f}<extra></extra>",
        )
    )
    return figure.update_layout(
        template=TEMPLATE,
        title=title,
        xaxis_title=f"Score of the {escaped(x)}",
        yaxis_title=f"Score of the {escaped(y)}",
        showlegend=False,
        height=560,
        margin=_MARGIN,
    )


def learning_curve(history: pd.DataFrame, metric: str, label: str, title: str) -> go.Figure:
    """A metric on held-out views by training step.

    ``history``: columns step and ``metric``. Raises LabError where one is missing.
    """
    require(history, "step", metric)
    line = {"color": ORANGE, "width": 2}
    figure = go.Figure(go.Scatter(x=history["step"], y=history[metric], line=line))
    return figure.update_layout(
        template=TEMPLATE,
        title=title,
        xaxis_title="Training step",
        yaxis_title=label,
        height=380,
        margin=_MARGIN,
    )


def variants_by_tap(table: pd.DataFrame, title: str) -> go.Figure:
    """SRCC by tap with its 95% interval, a colour per variant, grouped by timestep.

    ``table``: columns variant, timestep, tap, srcc, srcc_low and srcc_high, see ``probe_table``.
    Raises LabError where one is missing.
    """
    require(table, "variant", "timestep", "tap", "srcc", "srcc_low", "srcc_high")
    figure = go.Figure()
    for place, (variant, rows) in enumerate(table.groupby("variant", sort=False)):
        figure.add_trace(
            go.Bar(
                name=variant,
                x=[[f"t = {t}" for t in rows["timestep"]], list(rows["tap"])],
                y=rows["srcc"],
                marker_color=_VARIANTS[place % len(_VARIANTS)],
                error_y={
                    "array": rows["srcc_high"] - rows["srcc"],
                    "arrayminus": rows["srcc"] - rows["srcc_low"],
                    "thickness": 1,
                    "width": 3,
                },
            )
        )
    return figure.update_layout(
        template=TEMPLATE,
        title=title,
        yaxis_title="SRCC with MOS, test split",
        barmode="group",
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        height=480,
        margin={"l": 75, "r": 30, "t": 100, "b": 90},
    )
