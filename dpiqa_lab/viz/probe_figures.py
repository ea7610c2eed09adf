"""Figures of notebooks 01 and 02: probe results by layer and timestep."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .style import BLUE, COLOURS, GREY, INK, TEMPLATE, escaped, require

_RANGES = 5  # maximum number of lines with distinguishable ranges
SCALE = "Cividis"
_MARGIN = {"l": 75, "r": 30, "t": 80, "b": 60}


def heatmap(
    table: pd.DataFrame, x: str, y: str, title: str, value: str = "srcc", label: str = "SRCC"
) -> go.Figure:
    """``value`` by two columns, its number in each cell; a known range is shown on hovering.

    ``table``: a row per cell, as from ``summarize_probes``, with columns x, y, ``value`` and
    optionally ``<value>_low`` and ``_high``; in the table's order, the first row at the bottom.
    Raises LabError where a column is missing.
    """
    require(table, x, y, value)
    columns, rows = (list(dict.fromkeys(table[name])) for name in (x, y))
    square = table.pivot(index=y, columns=x).reindex(index=rows)
    values = square[value][columns].to_numpy(float)
    text = hover = _rounded(values)
    if f"{value}_low" in table:
        low, high = (square[f"{value}_{end}"][columns].to_numpy(float) for end in ("low", "high"))
        hover = np.vectorize(lambda *v: "{:.3f} ({:.3f} to {:.3f})".format(*v))(values, low, high)
    figure = _matrix(values, columns, rows, text, hover, title, label)
    return figure.update_xaxes(title=x.capitalize())


def similarity(matrix: pd.DataFrame, title: str, label: str) -> go.Figure:
    """A square table of numbers in [0, 1] between layers, see ``layer_similarity``."""
    values = matrix.to_numpy(float)
    text = _rounded(values)
    names = list(matrix.columns)
    return _matrix(values, names, names, text, text, title, label, (0, 1))


def curves_by_timestep(
    table: pd.DataFrame,
    title: str,
    by: str = "tap",
    metric: str = "srcc",
    floors: Mapping[str, float] | None = None,
) -> go.Figure:
    """``metric`` over timesteps, a line per ``by`` (tap or variant), with its range.

    ``table``: columns timestep, ``by``, ``metric``, ``<metric>_low`` and ``_high``. ``floors``:
    values without a timestep, as horizontal lines. With more than five lines the ranges are shown
    on hovering only. The axis is logarithmic where no timestep is 0. Raises
    LabError where a column is missing.
    """
    require(table, "timestep", by, metric, f"{metric}_low", f"{metric}_high")
    figure = go.Figure()
    table = table.dropna(subset=["timestep"]).sort_values("timestep", kind="stable")
    names = list(dict.fromkeys(table[by]))
    ranges = len(names) <= _RANGES
    for place, name in enumerate(names):
        rows = table[table[by] == name]
        # Shifted, so that the ranges do not overlap.
        aside = 1.05 ** (place - (len(names) - 1) / 2) if ranges else 1
        figure.add_trace(
            go.Scatter(
                x=rows["timestep"].astype(float) * aside,
                y=rows[metric],
                name=escaped(name),
                mode="lines+markers",
                line=_line(name, place),
                error_y=_bars(rows, metric) if ranges else None,
                customdata=rows[["timestep", f"{metric}_low", f"{metric}_high"]],
                hovertemplate=escaped(name) + "<br>t = %{customdata[0]}<br>%{y:.3f} "
                "(%{customdata[1]:.3f} to %{customdata[2]:.3f})<extra></extra>",
            )
        )
    found = sorted(set(table["timestep"].astype(int)))
    for name, level in (floors or {}).items():
        line = {"color": INK, "dash": "dash", "width": 1.5}
        ends = {"x": found[:1] + found[-1:], "y": [level, level], "mode": "lines"}
        figure.add_trace(go.Scatter(**ends, name=escaped(name), line=line))
    figure.update_xaxes(tickvals=found, ticktext=[str(t) for t in found])
    if found and found[0] > 0:
        figure.update_xaxes(type="log")
    # Layers in the heatmap's order, the output at the top.
    order = "reversed" if by == "tap" else "normal"
    return figure.update_layout(
        template=TEMPLATE,
        title=title,
        xaxis_title="Timestep",
        yaxis_title=f"{metric.upper()} with MOS, test split",
        legend={"traceorder": order},
        showlegend=True,
        height=520,
        margin=_MARGIN,
    )


def _line(name: object, place: int) -> dict:
    """A line's style; "all", the concatenation of the others, differs from them."""
    if name == "all":
        return {"color": INK, "width": 2.5, "dash": "dot"}
    return {"color": COLOURS[place % len(COLOURS)], "width": 2}


def _bars(rows: pd.DataFrame, metric: str) -> dict:
    low, middle, high = rows[f"{metric}_low"], rows[metric], rows[f"{metric}_high"]
    return {"array": high - middle, "arrayminus": middle - low, "thickness": 1.2, "width": 3}


def label_curves(table: pd.DataFrame, title: str) -> go.Figure:
    """SRCC by number of labels, a line per tap, the range over splits as bars.

    ``table``: columns tap, labels, srcc, srcc_low, srcc_high. Raises LabError where one is missing.
    """
    require(table, "tap", "labels", "srcc", "srcc_low", "srcc_high")
    figure = go.Figure()
    for place, (tap, rows) in enumerate(table.groupby("tap", sort=False)):
        figure.add_trace(
            go.Scatter(
                x=rows["labels"] * 1.02**place,
                y=rows["srcc"],
                name=escaped(tap),
                mode="lines+markers",
                line=_line(tap, place),
                error_y=_bars(rows, "srcc"),
            )
        )
    ticks = sorted(set(table["labels"].astype(int)))
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks])
    return figure.update_layout(
        template=TEMPLATE,
        title=title,
        xaxis_title="Labelled photographs (train and val)",
        yaxis_title="SRCC with MOS, test split",
        height=440,
        margin=_MARGIN,
    )


def channel_strip(table: pd.DataFrame, title: str, level: float = 0.05) -> go.Figure:
    """Each channel's signed correlation with MOS, by tap; filled where q is below ``level``.

    ``table``: columns tap, channel, srcc and q, of one timestep, see
    ``channel_correlations``. Raises LabError where one is missing.
    """
    require(table, "tap", "channel", "srcc", "q")
    taps = list(dict.fromkeys(table["tap"]))
    place = table["tap"].map({tap: i for i, tap in enumerate(taps)})
    # Spread by channel, so that each can be hovered over.
    x = place + 0.7 * (table["channel"] / table.groupby("tap")["channel"].transform("max") - 0.5)
    figure = go.Figure()
    for name, chosen, marker in (
        (f"q < {level:g}", table["q"] < level, {"color": BLUE, "size": 5}),
        (
            "not distinguishable from chance",
            table["q"] >= level,
            {"color": GREY, "size": 4, "opacity": 0.4},
        ),
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
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
        height=480,
        margin=_MARGIN,
    )


def photograph_scatter(table: pd.DataFrame, x: str, y: str, title: str) -> go.Figure:
    """Photographs as points coloured by MOS, their names on hovering.

    ``table``: columns x, y, name and mos, see ``photograph_map``. Raises LabError where one is
    missing.
    """
    require(table, x, y, "name", "mos")
    marker = {
        "color": table["mos"],
        "colorscale": SCALE,
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
    # Positions have no scale.
    figure.update_xaxes(showticklabels=False, ticks="")
    figure.update_yaxes(showticklabels=False, ticks="")
    return figure.update_layout(template=TEMPLATE, title=title, height=560, margin=_MARGIN)


def _rounded(values: np.ndarray) -> np.ndarray:
    """Numbers with two decimals, no minus before a zero, nothing for NaN."""
    return np.vectorize(lambda v: "" if np.isnan(v) else f"{round(v, 2) + 0.0:.2f}")(values)


def _matrix(
    values: np.ndarray,
    columns: Sequence,
    rows: Sequence,
    text: np.ndarray,
    hover: np.ndarray,
    title: str,
    label: str,
    limits: tuple[float | None, float | None] = (None, None),
) -> go.Figure:
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
            colorscale=SCALE,
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
