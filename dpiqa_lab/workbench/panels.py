"""The explorer's widgets: they call the view and show what it gives. No science here."""

import sys
import threading
import warnings
from collections.abc import Callable
from html import escape

import ipywidgets as w

from ..core.errors import LabError
from ..core.progress import interactive, watched
from ..core.runs import list_runs
from ..datasets.specs import SPECS
from ..diffusion.presets import PRESETS
from ..diffusion.prompts import SETS
from ..diffusion.taps import block_taps
from ..probing.features import POOLINGS
from .explore_config import ALL, STATISTICS, ExploreConfig
from .explorer import Explorer
from .explorer_view import View
from .panel_parts import STYLE, button, field, head, note
from .panel_tabs import DamageTab, ExportTab, PhotographsTab, RunsTab

# Fields whose widget's value is the view's as it is.
_PLAIN = ("timestep", "taps", "tap", "poolings", "statistic", "plot")


class Stopped(Exception):  # noqa: N818 - no error
    """The stop button was pressed."""


def explore(
    config: ExploreConfig | None = None, widgets: bool | None = None, **parameters
) -> "Panel | View":
    """The explorer as widgets; where nobody watches, as by papermill, its view as still figures.

    Args:
        config: resolved; or its fields by name, as ``explore(dataset="demo", timesteps="1,50")``.
        widgets: True or False in place of a look at who watches.

    Returns:
        To be named last in a cell. Only the still view computes features that are missing.

    Raises:
        LabError: impossible parameters, no such dataset or backbone.
    """
    view = View(Explorer(config or ExploreConfig.from_parameters(parameters)))
    if interactive() if widgets is None else widgets:
        _allow_widgets_in_colab()
        return Panel(view)
    view.explorer.compute()
    return view


def _allow_widgets_in_colab() -> None:
    """Colab shows other widgets than its own only where it is told to."""
    if "google.colab" in sys.modules:
        sys.modules["google.colab"].output.enable_custom_widget_manager()


class Panel(w.VBox):
    """Choices at the left; photographs, damage, runs and export in tabs at the right.

    Attributes:
        view: what is shown. quiet: whether values are being set, not chosen.
    """

    def __init__(self, view: View):
        self.view = view
        self.quiet = self._busy = self._stop = False
        self.worker = None
        side = self._side()
        self.photographs, self.damage = PhotographsTab(self), DamageTab(self)
        self.runs, self.files = RunsTab(self), ExportTab(self)
        self._tabs = (self.photographs, self.damage, self.runs, self.files)
        for tab in self._tabs:
            self._controls += tab.controls
        self.tabs = w.Tab(
            self._tabs,
            titles=["Photographs", "Damage", "Two runs", "Export"],
            layout=w.Layout(flex="1 1 0", min_width="0"),
        )
        self.tabs.observe(lambda _: self.told(self._draw_tab), "selected_index")
        body = w.HBox([side, self.tabs], layout=w.Layout(width="100%"))
        super().__init__([w.HTML(STYLE), body], layout=w.Layout(width="100%"))
        self.told(self._show)

    def _side(self) -> w.VBox:
        joined = {"mean + std": ("mean", "std"), **{name: (name,) for name in POOLINGS}}
        chosen = self.view.explorer.config.poolings
        if chosen not in joined.values():
            joined[" + ".join(chosen)] = chosen
        statistics = {text: name for name, text in STATISTICS.items()}
        plots = {"the probe's score": "score", "one channel": "channel"}

        self.dataset = field(w.Dropdown, "dataset", options=list(SPECS))
        self.data_root = field(w.Text, "folder", placeholder="data/<dataset>")
        self.image_size = field(w.BoundedIntText, "size, pixels", min=1, max=8192)
        self.backbone = field(w.Combobox, "backbone", options=list(PRESETS))
        self.opener = button("Open", "folder-open", self._open, width="auto")
        self.prompts = field(w.Dropdown, "prompts", options=list(SETS))
        self.timesteps = field(w.Text, "timesteps", continuous_update=False)
        self.taps = field(w.SelectMultiple, "layers", rows=9)
        compute = self.view.explorer.compute
        self.compute = button("Compute", "play", lambda: self.work("computing", compute), flex="1")
        self.compute.button_style = "primary"
        self.stop = button("", "stop", self._ask_stop, width="42px")
        self.stop.tooltip, self.stop.disabled = "Stop; what is done is kept", True
        self.progress = w.IntProgress(0, 0, 1, layout=w.Layout(width="auto", visibility="hidden"))
        self.message = w.HTML()
        self.timestep = field(w.SelectionSlider, "timestep", options=[0], continuous_update=False)
        self.tap = field(w.Dropdown, "layer", options=[ALL])
        self.poolings = field(w.Dropdown, "pooling", options=joined)
        self.statistic = field(w.Dropdown, "curves", options=statistics)
        self.plot = field(w.Dropdown, "against MOS", options=plots)
        self.channel = field(w.Text, "channel", placeholder="the best", continuous_update=False)
        for name in _PLAIN:
            getattr(self, name).observe(
                lambda change, name=name: self._chosen(**{name: change.new}), "value"
            )
        self.timesteps.observe(lambda change: self._chosen(timesteps=change.new), "value")
        self.prompts.observe(lambda change: self._new_prompts(change.new), "value")
        self.channel.observe(lambda change: self._chosen(channel=_number(change.new)), "value")
        fields = [self.dataset, self.data_root, self.image_size, self.backbone, self.opener]
        cached = [self.prompts, self.timesteps, self.taps]
        shown = [self.timestep, self.tap, self.poolings, self.statistic, self.plot, self.channel]
        self._controls = [*fields, *cached, self.compute, *shown]
        side = w.VBox(
            [
                w.HTML(head("PHOTOGRAPHS AND MODEL")), *fields,
                w.HTML(head("FEATURES")), *cached,
                w.HBox([self.compute, self.stop]), self.progress, self.message,
                w.HTML(head("SHOWN")), *shown,
            ],
            layout=w.Layout(width="280px", flex="0 0 280px"),
        )  # fmt: skip
        return side.add_class("lab-side")

    # What is chosen

    def choose(self, look: bool = False, **changes) -> None:
        """Change the view and show it. ``look``: see ``PhotographsTab.draw``."""
        self.view.explorer.choose(**changes)
        self.damage.forget()
        self._show(look)

    def _chosen(self, **changes) -> None:
        if not self.quiet:
            self.told(lambda: self.choose(**changes))

    def _new_prompts(self, prompts: str) -> None:
        if not self.quiet:  # embedding a set for the first time takes a while
            explorer = self.view.explorer
            self.work("embedding prompts", lambda: explorer.choose(prompts=prompts))

    def _open(self) -> None:
        explorer = self.view.explorer
        changes = {
            "dataset": self.dataset.value,
            "data_root": self.data_root.value.strip() or None,
            "backbone": self.backbone.value.strip(),
        }
        if changes["dataset"] == explorer.config.dataset:  # else the new one's own size
            changes["image_size"] = self.image_size.value
        self.work("opening", lambda: explorer.choose(**changes))

    # What is shown

    def _show(self, look: bool = False) -> None:
        """All controls and the open tab as the view is."""
        self._fill()
        self._draw_tab(look)
        coverage = self.view.explorer.coverage().to_numpy()
        self._say(f"{coverage.sum()} of {coverage.size} layers × timesteps are in the cache.")

    def _draw_tab(self, look: bool = False) -> None:
        tab = self._tabs[self.tabs.selected_index or 0]
        tab.draw(look) if tab is self.photographs else tab.draw()
        self.show_command()

    def show_command(self) -> None:
        """The command in the export tab follows every choice."""
        self.files.draw()

    def _fill(self) -> None:
        explorer, self.quiet = self.view.explorer, True
        config = explorer.config
        try:
            for name in ("dataset", "backbone", "image_size"):
                getattr(self, name).value = getattr(config, name)
            self.data_root.value = config.data_root or ""
            self.prompts.options = list(dict.fromkeys([*SETS, config.prompts]))
            self.prompts.value = config.prompts
            self.timesteps.value = ", ".join(map(str, config.timesteps))
            self.taps.options = list(
                dict.fromkeys([*block_taps(explorer.backbone.unet), *config.taps])
            )
            self.timestep.options = config.timesteps
            self.tap.options = {"all joined": ALL, **{tap: tap for tap in config.taps}}
            for name in _PLAIN:
                getattr(self, name).value = getattr(config, name)
            self.channel.value = "" if config.channel is None else str(config.channel)
            self.channel.disabled = config.plot != "channel"
            runs = _scored_runs()
            for box, name in (
                (self.damage.model, "model"),
                (self.runs.run_a, "run_a"),
                (self.runs.run_b, "run_b"),
            ):
                first = next(iter(box.options))
                box.options = {first: None, **{run: run for run in runs}}
                box.value = getattr(config, name) if getattr(config, name) in runs else None
        finally:
            self.quiet = False

    # Work, errors

    def told(self, action: Callable[[], None]) -> None:
        """Run it; what goes wrong, and what it warns of, is said in the panel."""
        if self._busy:
            return
        try:
            with warnings.catch_warnings(record=True) as caught:
                action()
            if told := [one.message for one in caught if one.category is UserWarning]:
                self._say(str(told[-1]))
        except LabError as error:
            self._fill()  # the controls go back to what is shown
            self._say(str(error), bad=True)
        except Exception as error:
            self._say(f"unexpected {type(error).__name__}: {error}", bad=True)
            raise

    def work(self, what: str, action: Callable[[], None]) -> None:
        """Run what takes long beside the notebook, with bar and stop button; one at a time."""
        if self._busy:
            return
        self._busy, self._stop = True, False
        for control in self._controls:
            control.disabled = True
        self.stop.disabled, self.progress.layout.visibility = False, "visible"
        self._say(what)
        self.worker = threading.Thread(target=self._worked, args=(action,), daemon=True)
        self.worker.start()

    def _worked(self, action: Callable[[], None]) -> None:
        def act():
            with watched(self._watch):
                action()

        said, bad = self._outcome(act)
        for control in self._controls:
            control.disabled = False
        self.stop.disabled, self.progress.layout.visibility = True, "hidden"
        self.damage.forget()
        shown = self._outcome(self._show)  # still busy: clicks meanwhile would mix with it
        self._busy = False
        if said or shown[0]:
            self._say(*((said, bad) if said else shown))

    @staticmethod
    def _outcome(action: Callable[[], None]) -> tuple[str, bool]:
        """What to say of an action, nothing where it went well, and whether it went wrong."""
        try:
            action()
        except Stopped:
            return "Stopped; what was done is kept.", False
        except LabError as error:
            return str(error), True
        except Exception as error:
            return f"unexpected {type(error).__name__}: {error}", True
        return "", False

    def _watch(self, what: str, done: int, total: int) -> None:
        if self._stop:
            raise Stopped
        self.progress.max, self.progress.value = max(total, 1), done
        self._say(f"{what}: {done} of {total}")

    def _ask_stop(self) -> None:
        self._stop, self.stop.disabled = True, True
        self._say("Stopping after this batch …")

    def _say(self, text: str, bad: bool = False) -> None:
        self.message.value = note(escape(text), bad)


def _number(text: str) -> int | str | None:
    """What is typed as a number; nothing as None; else as it is, to be refused by name."""
    text = text.strip()
    return int(text) if text.isdigit() else text or None


def _scored_runs() -> list[str]:
    table = list_runs()
    if not len(table):
        return []
    scored = (table["status"] == "completed") & table["test_srcc"].notna()
    return list(table.loc[scored, "name"])
