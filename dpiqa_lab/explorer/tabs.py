"""The tabs of the explorer's panel: each shows one aspect of the view and changes its fields."""

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import ipywidgets as w
import pandas as pd
import plotly.graph_objects as go
from PIL import Image
from traitlets import Bunch

from ..core.errors import LabError
from ..datasets.distortions import DISTORTIONS
from ..datasets.images import read_image
from ..evaluation.prediction_comparison import compare_predictions, shared_predictions
from ..viz.overlays import overlay
from . import figures
from .widgets import button, cards, field, follow, head, note, picture, row, table

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


class RunsTab(w.VBox):
    """Two runs on the same photographs."""

    def __init__(self, panel: "Panel") -> None:
        self.panel, self.view = panel, panel.view
        self.run_a = field(w.Dropdown, "run a", options={"–": None}, width="320px")
        self.run_b = field(w.Dropdown, "run b", options={"–": None}, width="320px")
        self.figure = go.FigureWidget(figures.against(None, "run a", "run b", None))
        self.table, self.card = w.HTML(), w.HTML()
        self.controls = [self.run_a, self.run_b]
        for control in self.controls:
            control.observe(self._changed, "value")
        self._content = [row(self.run_a, self.run_b), self.table, self.figure, self.card]
        super().__init__()

    def draw(self, chosen: str | None = None) -> None:
        """The two runs of the view; ``chosen``: a photograph to ring and show."""
        self.children = self._content  # see DamageTab
        config = self.view.explorer.config
        a, b = config.run_a, config.run_b
        if not (a and b):
            follow(self.figure, figures.against(None, "run a", "run b", None))
            self.table.value = self.card.value = ""
            return
        shared = shared_predictions(a, b)
        follow(self.figure, figures.against(shared, a, b, chosen), self._choose_image)
        rows = [[f"{len(shared)} photographs", "a", "b", "a − b, 95% interval (paired)", ""]]
        rows += [
            [
                found.metric.upper(),
                f"{found.a:.3f}",
                f"{found.b:.3f}",
                f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})",
                "they differ" if found.differs else "may be chance",
            ]
            for found in compare_predictions(shared).itertuples()
        ]
        self.table.value = cards(table(rows))

    def _changed(self, _: Bunch) -> None:
        if not self.panel.quiet:
            self.panel.run_action(self._choose_runs)

    def _choose_runs(self) -> None:
        self.view.explorer.choose(run_a=self.run_a.value, run_b=self.run_b.value)
        self.panel.show_command()
        self.draw()

    def _choose_image(self, name: object) -> None:
        def show() -> None:
            explorer = self.view.explorer
            image = explorer.dataset.table.iloc[explorer.position(str(name))]
            a, b = explorer.config.run_a, explorer.config.run_b
            assert a is not None  # else there is no point to click
            assert b is not None
            mos = shared_predictions(a, b).set_index("name")["mos"][str(name)]
            if abs(image["mos"] - mos) > 1e-6:
                raise LabError(
                    f"{name} has MOS {image['mos']:.4g} in the open dataset and {mos:.4g} in the "
                    "runs: open the dataset and the score scale that they were trained on."
                )
            caption = f"{escape(str(name))}<br>MOS {image['mos']:.3f}"
            self.card.value = cards(picture(image["path"], 220, caption))
            self.draw(str(name))

        self.panel.run_action(show)


class ExportTab(w.VBox):
    """Export of the view as files and as a command."""

    def __init__(self, panel: "Panel") -> None:
        self.panel, self.view = panel, panel.view
        self.name = field(w.Text, "folder", self.view.explorer.config.name, width="320px")
        self.export = button(
            "Export HTML, CSV, PNG", "download",
            lambda: panel.run_in_background("exporting", self._export),
            width="220px",
        )  # fmt: skip
        self.export.button_style = "primary"
        self.command = w.Textarea(layout=w.Layout(width="98%", height="150px"))
        self.written = w.HTML()
        self.controls = [self.name, self.export]
        files = w.HTML(head("AS FILES") + note("Under <code>runs/</code>, in this folder:"))
        again = w.HTML(head("AS A COMMAND") + note("It makes a notebook that shows this view:"))
        super().__init__([files, row(self.name, self.export), self.written, again, self.command])

    def draw(self) -> None:
        """Show the command that reproduces this view."""
        self.command.value = self.view.explorer.config.command()

    def _export(self) -> None:
        self.view.explorer.choose(name=self.name.value.strip())
        files = self.view.export()
        lines = "".join(f"<li><code>{escape(str(path))}</code></li>" for path in files)
        text = f"Written:<ul style='margin:0'>{lines}</ul>"
        if not any(path.name == "points.png" for path in files):
            text += (
                "No PNG of the figure, as plotly needs the package kaleido and Chrome for it; the "
                "camera icon over a figure saves one too."
            )
        self.written.value = note(text)


def _tried(
    strengths: Sequence[float] = (),
    probe: Sequence[float] = (),
    model: Sequence[float] | None = None,
) -> pd.DataFrame:
    """A table for ``figures.damage_scores``."""
    missing = [float("nan")] * len(strengths)
    return pd.DataFrame({"strength": strengths, "probe": probe, "model": model or missing})
