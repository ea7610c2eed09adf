"""Scored photographs to look at and to sort, as one HTML page that needs nothing else."""

from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from ..core.errors import LabError
from ..core.files import write_text
from .contact_sheet import thumbnail
from .style import escaped, require

_NUMBERS = ("score", "mos")

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 14px/1.4 system-ui, sans-serif; color: #222; background: #fff; margin: 16px }}
header {{ display: flex; gap: 8px; align-items: baseline; flex-wrap: wrap }}
button {{ font: inherit; padding: 2px 10px; cursor: pointer }}
button[aria-pressed=true] {{ font-weight: 600 }}
main {{ display: flex; flex-wrap: wrap; gap: 12px; margin-top: 12px }}
figure {{ margin: 0; width: {side}px }}
figure div {{ height: {side}px; display: flex; align-items: end; justify-content: center }}
img {{ max-width: 100%; max-height: 100% }}
figcaption {{ overflow-wrap: anywhere; white-space: pre-wrap }}
</style></head><body>
<header><span>{title}. Sort by</span>{buttons}</header>
{scale}
<main>
{cards}
</main>
<script>
const main = document.querySelector("main"), buttons = [...document.querySelectorAll("button")];
const value = (card, key) => key === "name"
  ? card.querySelector(".name").textContent : parseFloat(card.dataset[key]);
const order = (a, b) => a < b ? -1 : a > b ? 1 : 0;
function sort(key, down) {{
  const cards = [...main.children].map(card => [value(card, key), card]);
  // What has no number comes last, whatever the direction.
  cards.sort(([a], [b]) => Number.isNaN(a) || Number.isNaN(b)
    ? Number.isNaN(a) - Number.isNaN(b) : down ? order(b, a) : order(a, b));
  main.append(...cards.map(([, card]) => card));
  for (const button of buttons) {{
    const chosen = button.dataset.key === key;
    button.setAttribute("aria-pressed", chosen);
    button.dataset.down = chosen && down ? "yes" : "";
    button.textContent = button.dataset.key + (chosen ? down ? " ▼" : " ▲" : "");
  }}
}}
for (const button of buttons) button.onclick = () => {{
  const chosen = button.getAttribute("aria-pressed") === "true";
  // Names start from A, numbers from the highest; a second click turns them round.
  sort(button.dataset.key, chosen ? !button.dataset.down : button.dataset.key !== "name");
}};
sort("{first}", true);
</script></body></html>
"""


def gallery(
    table: pd.DataFrame,
    root: Path | str = ".",
    path: Path | str | None = None,
    limit: int = 200,
    thumb: int = 160,
):
    """Photographs with their scores, sorted by a click on name, score or MOS.

    Args:
        table: name and score, and where known mos and path, as ``score_folder`` gives it; the
            scale that its ``attrs`` tell of stands above the photographs.
        root: folder that the names are relative to, for a table without ``path``.
        path: HTML file to write the page to; it holds the pictures and opens offline.
        limit: photographs at most; of more, these are taken evenly along the score, its two ends
            among them, and the heading says so.
        thumb: side in pixels that a photograph is shrunk to.

    Returns:
        An object that a notebook cell shows.

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
    many = f"{len(table):,} photographs"
    title = many if len(shown) == len(table) else f"{len(shown):,} of {many}, along the score"
    page = _PAGE.format(
        title=title,
        side=thumb,
        scale=_scale(table),
        first="score",
        buttons="".join(_button(key) for key in ["name", *numbers]),
        cards="\n".join(_card(row, numbers, Path(root), thumb) for _, row in shown.iterrows()),
    )
    if path is not None:
        write_text(Path(path).expanduser(), page)
    # A frame of its own keeps the page's style and script away from the notebook's, and other
    # galleries'.
    return HTML(
        "<div><iframe sandbox='allow-scripts' style='width:100%;height:640px;border:0' "
        f'srcdoc="{escape(page)}"></iframe></div>'
    )


def _scale(table: pd.DataFrame) -> str:
    """What the scores mean, where the table's record of its model says so."""
    scale = table.attrs.get("model", {}).get("scale")
    return f"<p>Scores {escaped(scale)}.</p>" if scale else ""


def _button(key: str) -> str:
    return f'<button data-key="{key}" aria-pressed="false">{key}</button>'


def _card(row: pd.Series, numbers: list[str], root: Path, thumb: int) -> str:
    source = row["path"] if "path" in row else root / str(row["name"])
    values = " ".join(f'data-{key}="{float(row[key])!r}"' for key in numbers)
    told = "\n".join(f"{key} {row[key]:.3f}" for key in numbers)
    caption = f'<span class="name">{escaped(row["name"])}</span>\n{told}'
    return (
        f'<figure {values}><div><img alt="" src="{thumbnail(source, thumb)}"></div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
