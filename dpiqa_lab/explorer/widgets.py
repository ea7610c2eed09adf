"""Building blocks of the explorer's panel: fields, buttons, HTML fragments, live figures."""

from collections.abc import Callable
from html import escape
from pathlib import Path

import ipywidgets as w
import plotly.graph_objects as go
from PIL import Image
from plotly.basedatatypes import BaseTraceType
from plotly.callbacks import Points

from ..viz.contact_sheet import thumbnail

STYLE = """<style>
.lab-side {background:#f7f8fa; border:1px solid #e3e6ea; border-radius:8px; padding:8px 12px;}
.lab-head {font:600 11px/1.4 sans-serif; letter-spacing:.06em; color:#0072B2; margin:6px 0 0;}
.lab-card {display:flex; gap:14px; font:13px/1.5 sans-serif; color:#222; flex-wrap:wrap;}
.lab-card figure {margin:0; text-align:center;}
.lab-card img {border-radius:6px; display:block; margin:0 auto;}
.lab-card figcaption {color:#555; font-size:12px; line-height:1.35; margin-top:4px;}
.lab-card td {padding:0 12px 0 0; text-align:left;}
.lab-note {font:13px/1.5 sans-serif; color:#555;}
.lab-bad {font:13px/1.5 sans-serif; color:#8a1f11; background:#fdeeeb; border-radius:6px;
  padding:6px 10px; white-space:pre-wrap;}
</style>"""


def field(kind: type[w.Widget], label: str, value: object = None, **options: object) -> w.Widget:
    """An input with its label on the left."""
    if value is not None:
        options["value"] = value
    layout = w.Layout(width=options.pop("width", "auto"))
    style = {"description_width": "84px"}
    return kind(description=label, style=style, layout=layout, **options)


def button(text: str, icon: str, action: Callable[[], object], **layout: str) -> w.Button:
    """A button that calls ``action``."""
    widget = w.Button(description=text, icon=icon, layout=w.Layout(**layout))
    widget.on_click(lambda _: action())
    return widget


def row(*items: w.Widget) -> w.HBox:
    """Widgets side by side, wrapped when narrow."""
    return w.HBox(items, layout=w.Layout(flex_flow="row wrap", align_items="center"))


def head(text: str) -> str:
    """A small heading, as HTML."""
    return f"<div class='lab-head'>{escape(text)}</div>"


def note(text: str, bad: bool = False) -> str:
    """A sentence, as HTML; ``text`` is HTML."""
    return f"<div class='{'lab-bad' if bad else 'lab-note'}'>{text}</div>"


def cards(*parts: str) -> str:
    """Pictures and tables side by side, as HTML."""
    return f"<div class='lab-card'>{''.join(parts)}</div>"


def table(rows: list[list[str]]) -> str:
    """A small table, as HTML; the first column is plain, the others bold."""
    lines = (
        f"<tr><td>{first}</td>" + "".join(f"<td><b>{cell}</b></td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    return f"<div><table>{''.join(lines)}</table></div>"


def picture(source: str | Path | Image.Image, size: int, caption: str) -> str:
    """A picture of at most ``size`` pixels a side over a caption (HTML), as HTML."""
    image = f"<img src='{thumbnail(source, size)}'>"
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def follow(shown: go.FigureWidget, figure: go.Figure, click: Callable | None = None) -> None:
    """Update the widget to the figure.

    ``click``: called with the customdata of a clicked point.
    """
    layout = figure.layout.to_plotly_json()
    layout.pop("template", None)  # set when the widget was made
    if [trace.type for trace in shown.data] != [trace.type for trace in figure.data]:
        shown.data = ()
        shown.add_traces(figure.data)
    with shown.batch_update():
        for old, new in zip(shown.data, figure.data, strict=True):
            values = new.to_plotly_json()
            values.pop("type")
            old.update(values, overwrite=True)
        shown.layout.update(layout, overwrite=True)
        shown.layout.annotations = figure.layout.annotations
    if click:
        for trace in shown.data:
            trace.on_click(lambda trace, points, _: _clicked(trace, points, click))


def _clicked(trace: BaseTraceType, points: Points, click: Callable) -> None:
    if points.point_inds and trace.customdata is not None and len(trace.customdata):
        click(trace.customdata[points.point_inds[0]])
