"""Figures of notebook 04: what each term of distillation gives, and how two models agree."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .style import BLUE, GREY, INK, TEMPLATE, escaped, require

_MARGIN = {"l": 75, "r": 30, "t": 60, "b": 60}


def variant_intervals(
    table: pd.DataFrame, title: str, value: str = "srcc", label: str = "SRCC with MOS, test part"
) -> go.Figure:
    """A point a variant with its 95% interval, the first variant at the top.

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
    """A point a photograph by the scores of two models, coloured by MOS; the line is equality.

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
