"""The explorer's tab of damage: a slider per distortion, scores and channels before and after."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import ipywidgets as w
import pandas as pd
import plotly.graph_objects as go
from traitlets import Bunch

from ..datasets.distortions import DISTORTIONS
from . import figures
from .widgets import cards, field, follow, picture, row

if TYPE_CHECKING:
    from .app import Panel


class DamageTab(w.VBox):
    """One photograph under damage: one pass per release of the slider."""

    def __init__(self, panel: "Panel") -> None:
        self.panel, self.view = panel, panel.view
        config = self.view.explorer.config
        kinds = {kind.replace("_", " "): kind for kind in DISTORTIONS}
        self.damage = field(w.Dropdown, "damage", config.damage, options=kinds, width="260px")
        self.strength = field(
            w.FloatSlider, "strength", config.strength, min=0, max=1, step=0.05,
            continuous_update=False, width="340px",
        )  # fmt: skip
        self.model = field(w.Dropdown, "beside", options={"the probe alone": None}, width="300px")
        self.pair = w.HTML()
        self._tried: pd.DataFrame | None = None
        self.scores = go.FigureWidget(figures.damage_scores(_tried(), config.damage))
        self.channels = go.FigureWidget(figures.damage_channels(None))
        self.controls = [self.damage, self.strength, self.model]
        for control in self.controls:
            control.observe(self._changed, "value")
        choices = row(self.damage, self.strength, self.model)
        self._content = [choices, self.pair, self.scores, self.channels]
        super().__init__()

    def forget(self) -> None:
        """Drop the strengths tried so far, after a change of view."""
        self._tried = None

    def draw(self) -> None:
        """The chosen photograph and damage, unless already shown."""
        self.children = self._content  # only now: plotly measures its width once, when drawn
        if self._tried is None and self.view.explorer.ready():
            self._damage()

    def _changed(self, change: Bunch) -> None:
        if not self.panel.quiet:
            if change.owner is not self.strength:
                self.forget()
            self.panel.run_action(self._damage)

    def _damage(self) -> None:
        explorer = self.view.explorer
        kind, strength, model = self.damage.value, self.strength.value, self.model.value
        explorer.choose(damage=kind, strength=strength, model=model)
        self.panel.show_command()
        name = explorer.photograph()
        done = self.view.images.damaged(name, kind, strength)
        tried = _tried([0.0, strength], done.probe, done.model)
        self._tried = tried if self._tried is None else pd.concat([self._tried, tried])
        captions = [
            f"{escape(name)}, undamaged",
            f"{kind.replace('_', ' ')}, strength {strength:.2f}",
        ]
        scores = [f"score {score:.3f} by the probe" for score in done.probe]
        if done.model:
            beside = [f", {score:.3f} by {escape(model)}" for score in done.model]
            scores = [a + b for a, b in zip(scores, beside, strict=True)]
        self.pair.value = cards(
            *(
                picture(image, 256, f"{caption}<br><b>{score}</b>")
                for image, caption, score in zip(done.pictures, captions, scores, strict=True)
            )
        )
        follow(self.scores, figures.damage_scores(self._tried, kind))
        follow(self.channels, figures.damage_channels(done))


def _tried(
    strengths: Sequence[float] = (),
    probe: Sequence[float] = (),
    model: Sequence[float] | None = None,
) -> pd.DataFrame:
    """A table for ``figures.damage_scores``."""
    missing = [float("nan")] * len(strengths)
    return pd.DataFrame({"strength": strengths, "probe": probe, "model": model or missing})
