"""Figures of notebook 00: how the prior learns, and trained against random."""

import pandas as pd
import plotly.graph_objects as go

from .style import BLUE, GREY, ORANGE, TEMPLATE, require

_VARIANTS = (BLUE, GREY, ORANGE)


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
        margin={"l": 75, "r": 30, "t": 60, "b": 60},
    )


def variants_by_tap(table: pd.DataFrame, title: str) -> go.Figure:
    """SRCC by tap with its 95% interval, a colour a variant and a panel of bars a timestep.

    ``table``: columns variant, timestep, tap, srcc, srcc_low and srcc_high, as ``probe_table``
    gives them. Raises LabError where one is missing.
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
        yaxis_title="SRCC with MOS, test part",
        barmode="group",
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        height=480,
        margin={"l": 75, "r": 30, "t": 100, "b": 90},
    )
