"""The explorer's figures: each has the same traces for any data, so that a widget can update.

``None`` instead of a table gives an empty figure with a note on what to do.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ..viz.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, TEMPLATE, escaped
from .explore_config import ALL, STATISTICS
from .images import Damaged

SPLITS = {"train": GREY, "val": ORANGE, "test": BLUE}
_LINES = (BLUE, ORANGE, GREEN, PURPLE, "#D55E00", "#56B4E9", "#B79F00", GREY)
_MARGIN = {"l": 62, "r": 16, "t": 48, "b": 48}
_CHOSEN = {
    "symbol": "circle-open",
    "size": 17,
    "color": "#D55E00",
    "line": {"width": 3, "color": "#D55E00"},
}


def curves(overview: pd.DataFrame, statistic: str, timestep: int, tap: str) -> go.Figure:
    """The statistic over timesteps, a line per tap, the shown combination ringed.

    ``overview``: see ``Explorer.overview``; NaN leaves a gap.
    """
    figure = go.Figure()
    for place, (name, rows) in enumerate(overview.groupby("tap", sort=False)):
        colour = INK if name == ALL else _LINES[place % len(_LINES)]
        figure.add_trace(
            go.Scatter(
                x=[str(t) for t in rows["timestep"]],
                y=_numbers(rows["value"]),
                name="all joined" if name == ALL else name,
                customdata=[[t, name] for t in rows["timestep"]],
                mode="lines+markers",
                line={"color": colour, "width": 3 if name == tap else 1.5},
                marker={"size": 9},
                hovertemplate="%{fullData.name}, timestep %{x}<br>%{y:.3f}<extra></extra>",
            )
        )
    shown = overview[(overview["timestep"] == timestep) & (overview["tap"] == tap)]
    figure.add_trace(_chosen([str(t) for t in shown["timestep"]], shown["value"]))
    order = [str(t) for t in sorted(overview["timestep"].unique())]
    # In a browser plotly infers the type again from new values; strict reads text as text.
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=order)
    figure.update_xaxes(autotypenumbers="strict")
    if overview["value"].isna().all():
        _note(figure, "nothing computed yet for this view: press Compute")
    _layout(figure, "Where quality is read", "timestep", STATISTICS[statistic], 340)
    # The legend has several rows with many layers or little width: the title is above them.
    figure.update_layout(title={"yref": "container", "y": 0.98, "yanchor": "top"}, margin_t=88)
    return figure.update_layout(legend={"x": 0, "xanchor": "left"})


def points(table: pd.DataFrame | None, x_title: str, chosen: str | None) -> go.Figure:
    """MOS against ``x``, a point per photograph, the chosen one ringed.

    ``table``: name, mos, split, x, see ``Explorer.points``.
    """
    figure = go.Figure()
    empty = pd.DataFrame({"name": [], "mos": [], "split": [], "x": []})
    rows = empty if table is None else table
    kind = go.Scattergl if len(rows) > 5000 else go.Scatter  # thousands are too slow as SVG
    for split, colour in SPLITS.items():
        of_split = rows[rows["split"] == split]
        figure.add_trace(
            kind(
                x=of_split["x"],
                y=of_split["mos"],
                name=split,
                text=[escaped(name) for name in of_split["name"]],
                customdata=list(of_split["name"]),
                mode="markers",
                marker={"color": colour, "size": 9, "opacity": 0.65},
                showlegend=len(of_split) > 0,
                hovertemplate="%{text}<br>%{x:.4g}<br>MOS %{y:.3f}<extra></extra>",
            )
        )
    ringed = rows[rows["name"] == chosen]
    figure.add_trace(_chosen(ringed["x"], ringed["mos"]))
    if table is None:
        _note(figure, "not computed yet: press Compute")
    return _layout(figure, "Click a photograph", x_title, "MOS (higher is better)", 400)


def damage_scores(tried: pd.DataFrame, kind: str) -> go.Figure:
    """Scores by strength.

    ``tried``: strength, probe and optionally model, in any order.
    """
    tried = tried.drop_duplicates("strength", keep="last").sort_values("strength")
    figure = go.Figure()
    for column, name, colour in (("probe", "probe", BLUE), ("model", "model", ORANGE)):
        y = tried[column] if column in tried else pd.Series(np.nan, tried.index)
        figure.add_trace(
            go.Scatter(
                x=tried["strength"],
                y=_numbers(y),
                name=name,
                mode="lines+markers",
                line={"color": colour, "width": 2.5},
                marker={"size": 9},
                showlegend=bool(y.notna().any()),
                hovertemplate="strength %{x:.2f}<br>score %{y:.3f}<extra></extra>",
            )
        )
    figure.update_xaxes(range=[-0.03, 1.03])
    title = "Scores under the damage"
    return _layout(figure, title, f"strength of {kind.replace('_', ' ')}", "score", 320)


def damage_channels(damaged: Damaged | None, n: int = 12) -> go.Figure:
    """Bars of the ``n`` largest shifts of features under damage."""
    rows = damaged.channels.head(n)[::-1] if damaged else pd.DataFrame({"label": [], "shift": []})
    figure = go.Figure(
        go.Bar(
            x=rows["shift"],
            y=rows["label"],
            orientation="h",
            marker={"color": [BLUE if shift > 0 else ORANGE for shift in rows["shift"]]},
            hovertemplate="%{y}<br>%{x:+.2f} standard deviations<extra></extra>",
        )
    )
    figure.update_yaxes(tickfont={"size": 11}, automargin=True, ticks="")
    title = "Features that move most"
    return _layout(figure, title, "shift, standard deviations over the dataset", None, 320)


def against(shared: pd.DataFrame | None, run_a: str, run_b: str, chosen: str | None) -> go.Figure:
    """Scores of two runs against each other, coloured by MOS, with the line of equality.

    ``shared``: name, mos, score_a, score_b, see ``shared_predictions``.
    """
    columns = ["name", "mos", "score_a", "score_b"]
    rows = pd.DataFrame(columns=columns) if shared is None else shared
    scores = [*rows["score_a"], *rows["score_b"]]
    ends = [min(scores), max(scores)] if scores else []
    figure = go.Figure(
        [
            go.Scatter(
                x=ends, y=ends, mode="lines", line={"color": GREY, "dash": "dot"}, hoverinfo="skip"
            ),
            go.Scatter(
                x=rows["score_a"],
                y=rows["score_b"],
                text=[escaped(name) for name in rows["name"]],
                customdata=list(rows["name"]),
                mode="markers",
                marker={
                    "color": rows["mos"],
                    "colorscale": "Viridis",
                    "size": 9,
                    "colorbar": {"title": "MOS", "thickness": 12},
                },
                hovertemplate="%{text}<br>%{x:.3f}, %{y:.3f}<br>MOS %{marker.color:.3f}"
                "<extra></extra>",
            ),
        ]
    )
    ringed = rows[rows["name"] == chosen]
    figure.add_trace(_chosen(ringed["score_a"], ringed["score_b"]))
    figure.update_traces(showlegend=False)
    if shared is None:
        _note(figure, "choose two runs")
    title = "Two runs on the same test photographs"
    return _layout(figure, title, f"score of {escaped(run_a)}", f"score of {escaped(run_b)}", 420)


def _numbers(values: pd.Series) -> list[float | None]:
    """NaN as None, as JSON has no NaN."""
    return [None if np.isnan(value) else float(value) for value in values]


def _chosen(x: Sequence | pd.Series, y: pd.Series) -> go.Scatter:
    ring = go.Scatter(x=list(x), y=_numbers(y), mode="markers", marker=_CHOSEN)
    return ring.update(showlegend=False, hoverinfo="skip")


def _note(figure: go.Figure, text: str) -> None:
    """Show ``text`` in place of empty axes."""
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    centre = {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5, "showarrow": False}
    figure.add_annotation(text=text, font={"size": 15, "color": GREY}, **centre)


def _layout(figure: go.Figure, title: str, x: str, y: str | None, height: int) -> go.Figure:
    return figure.update_layout(
        template=TEMPLATE,
        title={"text": title, "font": {"size": 15}},
        font={"size": 12},
        xaxis_title=x,
        yaxis_title=y,
        height=height,
        autosize=True,  # else a plot made in a hidden tab stays 700 pixels wide
        margin=_MARGIN,
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.01, "yanchor": "bottom"},
        hovermode="closest",
    )
