"""The explorer's tab of images: curves over timesteps, scatter, the chosen image's card."""

from html import escape
from typing import TYPE_CHECKING

import ipywidgets as w
import plotly.graph_objects as go
from PIL import Image

from ..datasets.images import read_image
from ..viz.overlays import overlay
from . import figures
from .widgets import button, cards, follow, head, note, picture, table

if TYPE_CHECKING:
    from .app import Panel


class ImagesTab(w.VBox):
    """Curves over timesteps, the scatter, and the photograph chosen by a click."""

    def __init__(self, panel: "Panel") -> None:
        self.panel, self.view = panel, panel.view
        self.curves = go.FigureWidget(self.view.curves())
        self.points = go.FigureWidget(figures.points(None, "", None))
        self.facts, self.card, self.near = w.HTML(), w.HTML(), w.HTML()
        self.look = button(
            "Activation map",
            "eye",
            lambda: panel.run_action(lambda: self._card(True)),
            width="160px",
        )
        self.controls = [self.look]
        super().__init__([self.curves, self.facts, self.points, self.card, self.look, self.near])

    def draw(self, look: bool = False) -> None:
        """Redraw. ``look``: compute the photograph's activation map too, which takes a pass."""
        explorer = self.view.explorer
        ready = explorer.ready()
        # First, as a probe fitted here adds a point to the curves.
        figure = self.view.points() if ready else figures.points(None, "", None)
        follow(self.points, figure, self._choose_image)
        follow(self.curves, self.view.curves(), self._choose_place)
        self.facts.value = self.card.value = self.near.value = ""
        self.look.layout.display = "none"
        if ready:
            test = explorer.measured()
            (a, b), (c, d) = test["srcc_ci"], test["plcc_ci"]
            self.facts.value = note(
                f"Test split, {test['n']} photographs: <b>SRCC {test['srcc']:.3f}</b> "
                f"({a:.3f} to {b:.3f}), <b>PLCC {test['plcc']:.3f}</b> ({c:.3f} to {d:.3f}); "
                "95% bootstrap intervals, over contents where contents repeat."
            )
            self._card(look)

    def _choose_place(self, place: tuple[int, str]) -> None:
        timestep, tap = place
        self.panel.run_action(lambda: self.panel.choose(timestep=int(timestep), tap=str(tap)))

    def _choose_image(self, name: object) -> None:
        self.panel.run_action(lambda: self.panel.choose(look=True, photograph=str(name)))

    def _card(self, look: bool) -> None:
        images, name = self.view.images, self.view.explorer.photograph()
        card = images.card(name)
        whole = Image.fromarray(read_image(card["path"]))
        activation = images.activation(name, remembered=not look)
        self.look.layout.display = "none" if activation is not None else None
        shown = [picture(whole, 220, "photograph")]
        if activation is not None:
            low, high = activation.min(), activation.max()
            caption = f"activation map<br>{low:.3g} to {high:.3g}"
            shown.append(picture(overlay(whole, activation, low, high), 220, caption))
        score = "– (not in the test split)" if card["score"] is None else f"{card['score']:.3f}"
        scale = self.view.explorer.dataset.manifest.scale
        facts = [
            ["photograph", escape(name)],
            ["MOS", f"{card['mos']:.3f} ({card['mos_raw']:g} as released, of {scale})"],
            ["score of the probe", score],
            [card["column"], f"{card['feature']:.4g}"],
            ["split", card["split"]],
            ["size", f"{card['width']} × {card['height']}"],
        ]
        self.card.value = cards(*shown, table(facts))
        near = (
            picture(row.path, 104, f"MOS {row.mos:.2f}<br>distance {row.distance:.2f}")
            for row in images.neighbours(name).itertuples()
        )
        self.near.value = head("NEAREST IN FEATURES") + cards(*near)
