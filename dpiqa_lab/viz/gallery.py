"""Scored photographs as one sortable, self-contained HTML page."""

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from markupsafe import Markup

from ..core.errors import LabError
from ..core.files import write_text
from .contact_sheet import thumbnail
from .pages import render
from .style import require

if TYPE_CHECKING:
    from IPython.display import HTML

_NUMBERS = ("score", "mos")


def write_gallery(
    table: pd.DataFrame,
    root: Path | str = ".",
    path: Path | str | None = None,
    limit: int = 200,
    thumb: int = 160,
) -> "HTML":
    """A page of photographs with their scores, sorted by a click on name, score or MOS.

    Args:
        table: columns name and score, optionally mos and path, as from ``score_folder``; the
            scale of the scores in its ``attrs`` is shown above the photographs.
        root: folder that the names are relative to, for a table without ``path``.
        path: HTML file to write; it contains the pictures and opens offline.
        limit: maximum number of photographs; beyond it they are sampled evenly along the score,
            both ends included, and the heading says so.
        thumb: maximum side of a photograph in pixels.

    Returns:
        An object that a notebook cell displays.

    Raises:
        LabError: columns are missing, there are no rows, or a photograph cannot be read.
    """
    from IPython.display import HTML

    require(table, "name", "score")
    if not len(table) or limit < 1:
        raise LabError("no photographs to show: the table is empty, or limit is below 1.")
    shown = table.sort_values("score", ascending=False, kind="stable")
    if len(shown) > limit:
        shown = shown.iloc[np.linspace(0, len(shown) - 1, limit).round().astype(int)]
    numbers = [column for column in _NUMBERS if column in table]
    count = f"{len(table):,} photographs"
    title = count if len(shown) == len(table) else f"{len(shown):,} of {count}, along the score"
    page = render(
        "gallery.html",
        title=title,
        side=thumb,
        scale=table.attrs.get("model", {}).get("scale"),
        keys=["name", *numbers],
        cards=[_card(row, numbers, Path(root), thumb) for _, row in shown.iterrows()],
    )
    if path is not None:
        write_text(Path(path).expanduser(), page)
    # A frame isolates the page's style and script from the notebook's.
    return HTML(render("frame.html", page=Markup(escape(page))))


def _card(row: pd.Series, numbers: list[str], root: Path, thumb: int) -> dict[str, object]:
    source = row["path"] if "path" in row else root / str(row["name"])
    return {
        "name": Markup(escape(str(row["name"]), quote=False)),
        "picture": thumbnail(source, thumb),
        "numbers": {key: float(row[key]) for key in numbers},
    }
