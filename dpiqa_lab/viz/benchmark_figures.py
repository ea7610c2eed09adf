"""Figures of notebook 07: where a photograph's time goes, and how far from what is possible."""

import pandas as pd
import plotly.graph_objects as go

from .style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, TEMPLATE, escaped, require

_KINDS = {
    "products": (BLUE, "matrix products, convolutions, attention"),
    "elementwise": (ORANGE, "norms, activations, sums"),
    "copies": (PURPLE, "copies and conversions"),
    "outside": (GREY, "Python, launches, waiting"),
}

_DASHES = {"float32": "solid", "bfloat16": "dash", "float16": "dot", "int8": "longdashdot"}


def stage_bars(stages: pd.DataFrame, title: str) -> go.Figure:
    """A bar a stage, in milliseconds a photograph, divided by what its time went to.

    The diamond is the floor: what the stage's operations take at the rate of a large matrix
    product. ``stages``: columns stage, seconds, floor, share, and the parts products, elementwise,
    copies and outside. Raises LabError where one is missing.
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
    some = stages["floor"] > 0
    figure.add_trace(
        go.Scatter(
            y=[name for name, given in zip(names, some, strict=True) if given],
            x=1000 * stages["floor"][some],
            name="floor",
            mode="markers",
            marker={"symbol": "diamond", "size": 11, "color": INK},
            customdata=stages["share"][some],
            hovertemplate="%{y}: at best %{x:.1f} ms, %{customdata:.0%} of the time<extra></extra>",
        )
    )
    figure.update_yaxes(type="category", autorange="reversed")
    return figure.update_layout(
        template=TEMPLATE,
        title=title,
        barmode="stack",
        xaxis_title="Milliseconds a photograph",
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
        height=220 + 44 * len(stages),
        margin={"l": 110, "r": 30, "t": 110, "b": 60},
    )


def speed_bars(ratios: pd.DataFrame, title: str) -> go.Figure:
    """How many times faster than the plain reference, a bar a comparison; the line is equality.

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
    figure.update_yaxes(type="category", autorange="reversed")
    return figure.update_layout(
        template=TEMPLATE,
        title=title,
        barmode="group",
        xaxis_title="Times the plain reference's photographs a second",
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
        height=260 + 30 * len(ratios),
        margin={"l": 110, "r": 30, "t": 110, "b": 60},
    )


def rate_lines(passes: pd.DataFrame, title: str) -> go.Figure:
    """Photographs a second by batch size, a line a pass, precision and way.

    ``passes``: columns what, precision, batch, compiled and rate. Raises LabError where one is
    missing.
    """
    require(passes, "what", "precision", "batch", "compiled", "rate")
    colours = dict(zip(passes["what"].unique(), (BLUE, GREEN, ORANGE, PURPLE), strict=False))
    figure = go.Figure()
    for (what, precision, way), rows in passes.groupby(
        ["what", "precision", "compiled"], sort=False
    ):
        name = f"{what}, {precision}{', compiled' if way else ''}"
        figure.add_trace(
            go.Scatter(
                x=rows["batch"],
                y=rows["rate"],
                name=escaped(name),
                mode="lines+markers",
                line={"color": colours[what], "dash": _DASHES[precision]},
                marker={"symbol": "diamond" if way else "circle", "size": 9},
                hovertemplate="%{x} a batch: %{y:.1f} a second<extra>" + escaped(name) + "</extra>",
            )
        )
    figure.update_xaxes(type="log", title="Photographs a batch", tickvals=passes["batch"].unique())
    figure.update_yaxes(type="log", title="Photographs a second")
    return figure.update_layout(template=TEMPLATE, title=title, height=460)
