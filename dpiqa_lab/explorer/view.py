"""A view of the explorer as still figures, and as files."""

from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from IPython.display import Markdown, display
from PIL import Image, ImageDraw, ImageFont

from ..core.files import atomic_path, write_text
from ..core.paths import runs_dir
from ..datasets.images import read_image
from ..evaluation.prediction_comparison import compare_predictions, shared_predictions
from ..viz.contact_sheet import pictures
from ..viz.overlays import overlay
from ..viz.pages import render
from . import figures
from .explore_config import ALL
from .explorer import Explorer
from .images import ExplorerImages

_THUMB, _CAPTION, _GAP = 192, 34, 12  # pixels


class View:
    """The explorer's figures and tables without widgets; a notebook cell displays it.

    Attributes:
        explorer: the data. images: single photographs of its view.
    """

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self.images = ExplorerImages(explorer)

    def curves(self) -> go.Figure:
        """See ``figures.curves``."""
        explorer, config = self.explorer, self.explorer.config
        return figures.curves(explorer.overview(), config.statistic, explorer.timestep, config.tap)

    def points(self) -> go.Figure:
        """See ``figures.points``. LabError where the features are not computed."""
        explorer, config = self.explorer, self.explorer.config
        if config.plot == "score":
            title = f"score of the probe on {self._tap()}, timestep {config.timestep}"
        else:
            column = explorer.column_names()[explorer.channel()]
            title = f"{column}, timestep {config.timestep}"
        return figures.points(explorer.points(), title, explorer.photograph())

    def gallery(self) -> tuple[list[Image.Image], list[str]]:
        """The photograph, its activation map and its neighbours, with captions of two lines."""
        name = self.explorer.photograph()
        card, near = self.images.card(name), self.images.neighbours(name)
        picture = Image.fromarray(read_image(card["path"]))
        activation = self.images.activation(name)
        assert activation is not None  # computed if missing
        score = "not in the test split" if card["score"] is None else f"score {card['score']:.3f}"
        shown = [picture, overlay(picture, activation, activation.min(), activation.max())]
        shown += [Image.fromarray(read_image(path)) for path in near["path"]]
        captions = [f"{name}\nMOS {card['mos']:.3f}, {score}", "activation map\n" + self._tap()]
        captions += [
            f"{row['name']}\nMOS {row.mos:.3f}, distance {row.distance:.2f}"
            for _, row in near.iterrows()
        ]
        return shown, captions

    def damage(self) -> tuple[go.Figure, go.Figure, list[Image.Image]]:
        """Scores and shifts of features under the chosen damage, pictures before and after.

        Takes one pass.
        """
        config, name = self.explorer.config, self.explorer.photograph()
        done = self.images.damaged(name, config.damage, config.strength)
        tried = pd.DataFrame({"strength": [0.0, config.strength], "probe": done.probe})
        if done.model:
            tried["model"] = done.model
        scores = figures.damage_scores(tried, config.damage)
        return scores, figures.damage_channels(done), list(done.pictures)

    def comparison(self) -> tuple[go.Figure, pd.DataFrame] | None:
        """The two runs' figure and table, see ``compare_predictions``; None without two runs."""
        config = self.explorer.config
        if not (config.run_a and config.run_b):
            return None
        shared = shared_predictions(config.run_a, config.run_b)
        figure = figures.against(shared, config.run_a, config.run_b, config.photograph)
        return figure, compare_predictions(shared)

    def stills(self) -> dict[str, go.Figure]:
        """All figures, by name."""
        shown, captions = self.gallery()
        config = self.explorer.config
        scores, channels, pair = self.damage()
        found = {
            "curves": self.curves(),
            "points": self.points(),
            "photograph": pictures(shown, captions, "The photograph and its nearest in features"),
            "damage": pictures(
                pair,
                ["undamaged", f"{config.damage} {config.strength:.2f}"],
                "The photograph under damage",
            ),
            "damage_scores": scores,
            "damage_channels": channels,
        }
        if compared := self.comparison():
            found["runs"] = compared[0]
        return found

    def summary(self) -> pd.DataFrame:
        """One row: timestep, tap, plot, n, and SRCC and PLCC with 95% intervals."""
        config, measured = self.explorer.config, self.explorer.measured()
        place = {"timestep": config.timestep, "tap": config.tap, "plot": config.plot}
        names = ("n", "srcc", "srcc_ci", "plcc", "plcc_ci")
        return pd.DataFrame([{**place, **{name: measured[name] for name in names}}])

    def export(self) -> list[Path]:
        """The view as files under ``runs/<name>/``.

        ``view.html`` (all figures, opens offline), ``points.csv``, ``curves.csv``,
        ``photographs.png``, ``command.txt`` (reproduces the view), ``runs.csv`` where two runs are
        compared, and ``points.png`` where kaleido and a browser are installed.
        """
        folder = runs_dir() / self.explorer.config.name
        stills, command = self.stills(), self.explorer.config.command()
        write_text(
            folder / "view.html", render("view.html", figures=stills.values(), command=command)
        )
        write_text(folder / "command.txt", command + "\n")
        points = self.explorer.points().drop(columns="path")
        tables = {"points": points, "curves": self.explorer.overview()}
        if compared := self.comparison():
            tables["runs"] = compared[1]
        for name, table in tables.items():
            write_text(folder / f"{name}.csv", table.to_csv(index=False))
        with atomic_path(folder / "photographs.png") as temporary:
            contact_sheet(*self.gallery()).save(temporary, "PNG", optimize=True)
        written = ["view.html", "command.txt", "photographs.png", *(f"{n}.csv" for n in tables)]
        if picture := _png(stills["points"]):
            with atomic_path(folder / "points.png") as temporary:
                temporary.write_bytes(picture)
            written.append("points.png")
        return [folder / name for name in written]

    def _tap(self) -> str:
        config = self.explorer.config
        return " + ".join(self.explorer.taps) if config.tap == ALL else config.tap

    def _ipython_display_(self) -> None:
        display(self.summary())
        for figure in self.stills().values():
            display(figure)
        if compared := self.comparison():
            display(compared[1])
        display(Markdown(f"This view again:\n```\n{self.explorer.config.command()}\n```"))


def contact_sheet(shown: list[Image.Image], captions: list[str], columns: int = 4) -> Image.Image:
    """Pictures over captions of two lines, as one picture."""
    across, down = _THUMB + _GAP, _THUMB + _CAPTION + _GAP
    columns = min(columns, len(shown))
    size = (columns * across + _GAP, -(-len(shown) // columns) * down + _GAP)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for place, (picture, caption) in enumerate(zip(shown, captions, strict=True)):
        x, y = place % columns * across + _GAP, place // columns * down + _GAP
        small = picture.copy()
        small.thumbnail((_THUMB, _THUMB))
        sheet.paste(small, (x + (_THUMB - small.width) // 2, y + _THUMB - small.height))
        for line, text in enumerate(caption.split("\n")):
            while draw.textlength(text, font) > _THUMB:
                text = text[1:]  # names differ in their ends
            draw.text((x + _THUMB / 2, y + _THUMB + 4 + 15 * line), text, "#222222", font, "ma")
    return sheet


def _png(figure: go.Figure) -> bytes | None:
    """The figure as PNG, ``None`` without kaleido or its browser."""
    try:
        import kaleido  # noqa: F401

        return figure.to_image("png", scale=2)
    except Exception:  # noqa: BLE001 - whatever kaleido lacks, the export goes without
        return None
