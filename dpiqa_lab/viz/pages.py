"""Self-contained HTML pages from the templates: escaped, usable offline."""

from functools import cache

import jinja2
import pandas as pd
import plotly.graph_objects as go
import plotly.io
from markupsafe import Markup

_FIGURE = {"displaylogo": False, "responsive": True}


def render(template: str, **values: object) -> str:
    """Render a template of ``templates/``.

    Args:
        template: file name, as "report.html".
        values: by name in the template. All text is escaped, except ``Markup``.

    Returns:
        Valid UTF-8: what cannot be encoded, as in some file names, becomes "?".
    """
    text = _environment().get_template(template).render(values)
    return text.encode("utf-8", "replace").decode("utf-8")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dpiqa_lab.viz"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"figure": _figure, "table": _table}
    return environment


def _figure(figure: go.Figure, script: bool) -> Markup:
    """``script``: whether to include plotly.js, needed once per page."""
    return Markup(plotly.io.to_html(figure, _FIGURE, full_html=False, include_plotlyjs=script))


def _table(table: pd.DataFrame) -> Markup:
    number = "{:.3f}".format
    return Markup(table.to_html(index=False, border=0, float_format=number, na_rep=""))
