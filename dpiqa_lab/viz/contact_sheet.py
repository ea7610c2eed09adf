"""Contact sheets, and the choice of photographs for them."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from PIL import Image

from .. import metrics
from ..core.errors import LabError, unknown
from ..datasets.images import read_image
from .style import TEMPLATE, escaped, require

KINDS = ("best", "worst", "most wrong")

_GAP, _BELOW, _TITLE = 16, 50, 60  # pixels between photographs, for a caption and for the title


def pick(predictions: pd.DataFrame, kind: str, n: int = 8, logistic: bool = True) -> pd.DataFrame:
    """The ``n`` rows of ``predictions`` that are first by ``kind``.

    ``kind``: "best" and "worst" are by score; "most wrong" by the distance of MOS from the fitted
    logistic, or from the score without ``logistic`` or where the fit fails (with a warning).
    Raises LabError for another kind and for missing columns (mos, score).
    """
    require(predictions, "mos", "score")
    if kind not in KINDS:
        raise unknown("kind of photographs", kind, KINDS)
    score, mos = predictions["score"].to_numpy(float), predictions["mos"].to_numpy(float)
    key = {"best": -score, "worst": score}.get(kind)
    if key is None:
        curve = metrics.fit_logistic(score, mos) if logistic else None
        key = -np.abs(mos - (curve(score) if curve and curve.fitted else score))
    return predictions.iloc[np.argsort(key, kind="stable")[:n]]


def contact_sheet(rows: pd.DataFrame, title: str, columns: int = 4, thumb: int = 192) -> go.Figure:
    """A sheet of photographs in ``columns``, each over its name, MOS and score.

    ``rows``: columns name, path, mos and score; at most ``thumb`` pixels a side, as JPEG inside
    the figure. Raises LabError for no rows, missing columns and
    files that cannot be read.
    """
    require(rows, "name", "path", "mos", "score")
    captions, hover = [], []
    for row in rows.itertuples():
        numbers = f"MOS {row.mos:.3g}, score {row.score:.3g}"
        captions.append(f"{_shortened(str(row.name), thumb // 9)}\n{numbers}")
        hover.append(f"{row.name}\n{numbers}")
    return pictures(list(rows["path"]), captions, title, columns, thumb, hover)


def pictures(
    sources: Sequence[str | Path | Image.Image],
    captions: Sequence[str],
    title: str,
    columns: int = 4,
    thumb: int = 192,
    hover: Sequence[str] | None = None,
) -> go.Figure:
    """A sheet of pictures in ``columns``, each over a caption of at most two lines.

    ``sources``: files or PIL images. ``hover``: hover texts, by default the captions. Raises
    LabError for no pictures and for files that cannot be read.
    """
    if not len(sources):
        raise LabError("no photographs to show: the table is empty.")
    across, down = thumb + _GAP, thumb + _BELOW
    columns = min(columns, len(sources))
    # One unit of the axes is one pixel, y from the top; a narrow sheet leaves room for its title.
    width, height = max(columns * across, 480), -(-len(sources) // columns) * down
    figure, centres = go.Figure(), []
    for place, (source, caption) in enumerate(zip(sources, captions, strict=True)):
        x, y = (place % columns + 0.5) * across, place // columns * down
        size = {"sizex": thumb, "sizey": thumb, "xanchor": "center", "yanchor": "bottom"}
        picture = thumbnail(source, thumb)
        figure.add_layout_image(source=picture, x=x, y=y + thumb, xref="x", yref="y", **size)
        figure.add_annotation(
            text=_lines(caption), x=x, y=y + thumb, yanchor="top", showarrow=False
        )
        centres.append((x, y + thumb / 2))
    # Invisible markers carry the hover texts, which layout images cannot have.
    xs, ys = zip(*centres, strict=True)
    marker = {"symbol": "square", "size": thumb, "opacity": 0}
    texts = [_lines(text) for text in hover or captions]
    figure.add_trace(go.Scatter(x=xs, y=ys, mode="markers", marker=marker, hovertext=texts))
    figure.update_traces(hoverinfo="text")
    figure.update_annotations(font_size=13)
    figure.update_xaxes(visible=False, range=[0, width], fixedrange=True)
    figure.update_yaxes(visible=False, range=[height, 0], fixedrange=True)
    return figure.update_layout(
        template=TEMPLATE,
        title=title,
        width=width + 2 * _GAP,
        height=height + _TITLE,
        margin={"l": _GAP, "r": _GAP, "t": _TITLE, "b": 0},
    )


def thumbnail(source: str | Path | Image.Image, size: int) -> str:
    """The picture as a JPEG data URI, at most ``size`` pixels a side."""
    picture = Image.fromarray(read_image(source))
    picture.thumbnail((size, size))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _lines(text: str) -> str:
    return "<br>".join(escaped(line) for line in text.split("\n"))


def _shortened(name: str, length: int) -> str:
    """``name`` shortened in the middle, as names differ at their ends."""
    if len(name) <= length:
        return name
    return f"{name[: length // 2 - 1]}…{name[len(name) - (length - length // 2) :]}"
