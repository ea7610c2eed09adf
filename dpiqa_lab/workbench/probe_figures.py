"""Figures of notebooks 01 and 02: what probes read, layer by layer and timestep by timestep."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import get_colorscale, sample_colorscale

from .style import BLUE, COLOURS, GREY, INK, TEMPLATE, escaped, require

_SCALE = "Cividis"
_MARGIN = {"l": 75, "r": 30, "t": 80, "b": 60}


def heatmap(
    table: pd.DataFrame, x: str, y: str, title: str, value: str = "srcc", label: str = "SRCC"
) -> go.Figure:
    """``value`` by two columns, its number in each cell; the range on hovering where there is one.

    ``table``: a row a cell, as ``over_probes`` gives it, with the columns x, y, ``value`` and, if
    known, ``<value>_low`` and ``_high``. Rows and columns keep the table's order, the first row at
    the bottom. Raises LabError where a column is missing.
    """
    require(table, x, y, value)
    columns, rows = (list(dict.fromkeys(table[name])) for name in (x, y))
    square = table.pivot(index=y, columns=x).reindex(index=rows)
    values = square[value][columns].to_numpy(float)
    text = np.vectorize(lambda v: "" if np.isnan(v) else f"{v:.2f}")(values)
    hover = text
    if f"{value}_low" in table:
        low, high = (square[f"{value}_{end}"][columns].to_numpy(float) for end in ("low", "high"))
        hover = np.vectorize(lambda *v: "{:.3f} ({:.3f} to {:.3f})".format(*v))(values, low, high)
    return _matrix(values, columns, rows, text, hover, title, label).update_layout(
        xaxis_title=x, yaxis_title=y
    )


def similarity(matrix: pd.DataFrame, title: str, label: str) -> go.Figure:
    """A square table of numbers in [0, 1] between layers, as ``layer_similarity`` gives it."""
    values = matrix.to_numpy(float)
    text = np.vectorize(lambda v: "" if np.isnan(v) else f"{v:.2f}")(values)
    names = list(matrix.columns)
    return _matrix(values, names, names, text, text, title, label, (0, 1))


def curves_by_timestep(
    table: pd.DataFrame,
    title: str,
    by: str = "tap",
    metric: str = "srcc",
    floors: Mapping[str, float] | None = None,
) -> go.Figure:
    """``metric`` over timesteps, a line for each of ``by`` (tap or arm), with its range.

    ``table``: columns timestep, ``by``, ``metric``, ``<metric>_low`` and ``_high``. ``floors``:
    values without a timestep, drawn across. The axis is logarithmic where no timestep is 0. Raises
    LabError where a column is missing.
    """
    require(table, "timestep", by, metric, f"{metric}_low", f"{metric}_high")
    figure = go.Figure()
    table = table.dropna(subset=["timestep"]).sort_values("timestep", kind="stable")
    names = list(dict.fromkeys(table[by]))
    for place, name in enumerate(names):
        rows = table[table[by] == name]
        colour = COLOURS[place % len(COLOURS)]
        x = rows["timestep"].astype(float)
        hover = "<br>t = %{customdata}<br>%{y:.3f}<extra></extra>"
        # A little apart, so that the ranges do not hide one another.
        aside = 1.012 ** (place - len(names) / 2)
        figure.add_trace(
            go.Scatter(
                x=x * aside,
                y=rows[metric],
                name=escaped(name),
                mode="lines+markers",
                line={"color": colour, "width": 2, "dash": "dot" if name == "all" else "solid"},
                error_y={
                    "array": rows[f"{metric}_high"] - rows[metric],
                    "arrayminus": rows[metric] - rows[f"{metric}_low"],
                    "thickness": 1,
                    "width": 2,
                },
                customdata=rows["timestep"],
                hovertemplate=escaped(name) + hover,
            )
        )
    for name, level in (floors or {}).items():
        figure.add_hline(
            level, line={"color": INK, "dash": "dash", "width": 1.5}, annotation_text=escaped(name)
        )
    found = sorted(set(table["timestep"].astype(int)))
    figure.update_xaxes(tickvals=found, ticktext=[str(t) for t in found])
    if found and found[0] > 0:
        figure.update_xaxes(type="log")
    return figure.update_layout(
        template=TEMPLATE,
        title=title,
        xaxis_title="Timestep",
        yaxis_title=f"{metric.upper()} with MOS, test part",
        height=520,
        margin=_MARGIN,
    )


def label_curves(table: pd.DataFrame, title: str) -> go.Figure:
    """SRCC by number of labels, a line a tap, the range over splits as bars.

    ``table``: columns tap, labels, srcc, srcc_low, srcc_high. Raises LabError where one is missing.
    """
    require(table, "tap", "labels", "srcc", "srcc_low", "srcc_high")
    figure = go.Figure()
    for place, (tap, rows) in enumerate(table.groupby("tap", sort=False)):
        figure.add_trace(
            go.Scatter(
                x=rows["labels"],
                y=rows["srcc"],
                name=escaped(tap),
                mode="lines+markers",
                line={"color": COLOURS[place % len(COLOURS)], "width": 2},
                error_y={
                    "array": rows["srcc_high"] - rows["srcc"],
                    "arrayminus": rows["srcc"] - rows["srcc_low"],
                    "thickness": 1,
                    "width": 3,
                },
            )
        )
    ticks = sorted(set(table["labels"].astype(int)))
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks])
    return figure.update_layout(
        template=TEMPLATE,
        title=title,
        xaxis_title="Labelled photographs (train and val)",
        yaxis_title="SRCC with MOS, test part",
        height=440,
        margin=_MARGIN,
    )


def channel_strip(table: pd.DataFrame, title: str, level: float = 0.05) -> go.Figure:
    """Each channel's signed correlation with MOS, by tap; filled where q is below ``level``.

    ``table``: columns tap, channel, srcc and q, of one timestep, as ``channel_correlations`` gives
    them. Raises LabError where one is missing.
    """
    require(table, "tap", "channel", "srcc", "q")
    taps = list(dict.fromkeys(table["tap"]))
    place = table["tap"].map({tap: i for i, tap in enumerate(taps)})
    # Spread by channel, so that each can be pointed at.
    x = place + 0.7 * (table["channel"] / table.groupby("tap")["channel"].transform("max") - 0.5)
    figure = go.Figure()
    for name, chosen, marker in (
        (f"q < {level:g}", table["q"] < level, {"color": BLUE, "size": 5}),
        ("not told from chance", table["q"] >= level, {"color": GREY, "size": 4, "opacity": 0.4}),
    ):
        rows = table[chosen]
        figure.add_trace(
            go.Scattergl(
                x=x[chosen],
                y=rows["srcc"],
                mode="markers",
                marker=marker,
                name=f"{name}: {len(rows)}",
                customdata=rows[["tap", "channel", "q"]],
                hovertemplate="%{customdata[0]}, channel %{customdata[1]}<br>SRCC %{y:.3f}"
                "<br>q %{customdata[2]:.2g}<extra></extra>",
            )
        )
    figure.update_xaxes(tickvals=list(range(len(taps))), ticktext=[escaped(tap) for tap in taps])
    return figure.update_layout(
        template=TEMPLATE,
        title=title,
        yaxis_title="SRCC with MOS, signed",
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
        height=480,
        margin=_MARGIN,
    )


def photograph_scatter(table: pd.DataFrame, x: str, y: str, title: str) -> go.Figure:
    """Photographs as points coloured by MOS, their names on hovering.

    ``table``: columns x, y, name and mos, as ``photograph_map`` gives them. Raises LabError where
    one is missing.
    """
    require(table, x, y, "name", "mos")
    marker = {
        "color": table["mos"],
        "colorscale": _SCALE,
        "size": 6,
        "opacity": 0.8,
        "colorbar": {"title": "MOS"},
    }
    figure = go.Figure(
        go.Scattergl(
            x=table[x],
            y=table[y],
            mode="markers",
            marker=marker,
            text=[escaped(name) for name in table["name"]],
            customdata=table["mos"],
            hovertemplate="%{text}<br>MOS %{customdata:.3g}<extra></extra>",
        )
    )
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False)
    return figure.update_layout(template=TEMPLATE, title=title, height=560, margin=_MARGIN)


def _matrix(values, columns, rows, text, hover, title, label, limits=(None, None)) -> go.Figure:
    names = [[escaped(name) for name in side] for side in (columns, rows)]
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=names[0],
            y=names[1],
            text=text,
            texttemplate="%{text}",
            customdata=hover,
            hovertemplate="%{x}, %{y}<br>%{customdata}<extra></extra>",
            colorscale=_SCALE,
            zmin=limits[0],
            zmax=limits[1],
            colorbar={"title": label},
        )
    )
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False)
    return figure.update_layout(
        template=TEMPLATE, title=title, height=160 + 38 * len(rows), margin=_MARGIN
    )


def colours(values: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1] of any shape as colours (..., 3) uint8 of the figures' scale."""
    stops = np.linspace(0, 1, 256)
    names = sample_colorscale(get_colorscale(_SCALE), list(stops), colortype="tuple")
    table = (np.array(names) * 255).round().astype(np.uint8)
    return table[(np.clip(values, 0, 1) * 255).round().astype(int)]
