"""Shared style of the figures, and how they are saved."""

from html import escape
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import plotly.io

from ..core.errors import LabError
from ..core.files import atomic_path

# Okabe & Ito's (2008) colour-blind safe colours.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
GREY, INK = "#767676", "#222222"
# For many lines: Okabe and Ito's by contrast, with a wine red in place of black.
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, "#56B4E9", "#D55E00", GREY, "#B79F00", "#882255")

_AXIS = {
    "showline": True,
    "linecolor": "#444444",
    "gridcolor": "#E5E5E5",
    "zeroline": False,
    "ticks": "outside",
    # Long names of layers would be cut off otherwise.
    "automargin": True,
}
TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": "Helvetica, Arial, sans-serif", "size": 14, "color": INK},
        "title": {"font": {"size": 17}, "x": 0.02, "xanchor": "left"},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "colorway": [BLUE, ORANGE, GREEN, PURPLE, GREY],
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "hoverlabel": {"font": {"size": 13}, "align": "left"},
    }
)

# JupyterLab draws plotly's own format, exported pages need HTML; any other renderer was chosen by
# the user or an editor.
if plotly.io.renderers.default == "plotly_mimetype":
    plotly.io.renderers.default = "plotly_mimetype+notebook"


def save(figure: go.Figure, folder: Path | str, name: str) -> Path:
    """Write ``folder/name.html``, interactive and usable offline (plotly.js included).

    Raises LabError for a name with a path separator.
    """
    if not name or Path(name).name != name:
        raise LabError(f"figure name {name!r} is not a file name; the folder is given on its own.")
    path = Path(folder) / f"{name}.html"
    with atomic_path(path) as temporary:
        figure.write_html(temporary, include_plotlyjs=True, config={"displaylogo": False})
    return path


def require(table: pd.DataFrame, *columns: str) -> None:
    """Raise LabError naming those of ``columns`` that ``table`` lacks."""
    missing = [column for column in columns if column not in table]
    if missing:
        raise LabError(
            f"the table has no column {', '.join(missing)}; it has {', '.join(map(str, table))}."
        )


def escaped(name: object) -> str:
    """A name as plain text for plotly, which reads some HTML, and for files, which are UTF-8."""
    return escape(str(name).encode("utf-8", "replace").decode("utf-8"), quote=False)
