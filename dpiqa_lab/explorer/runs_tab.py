"""The explorer's tab of runs: two runs' predictions side by side."""

from html import escape
from typing import TYPE_CHECKING

import ipywidgets as w
import plotly.graph_objects as go
from traitlets import Bunch

from ..core.errors import LabError
from ..evaluation.prediction_comparison import compare_predictions, shared_predictions
from . import figures
from .widgets import cards, field, follow, picture, row, table

if TYPE_CHECKING:
    from .app import Panel


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
