"""The explorer's panel of widgets around its view."""

import sys

import ipywidgets as w

from ..core.progress import interactive
from ..core.runs import list_runs
from ..datasets.specs import SPECS
from ..diffusion.presets import PRESETS
from ..diffusion.prompts import SETS
from ..diffusion.taps import block_taps
from ..probing.features import POOLINGS
from .background import TaskBox
from .damage_tab import DamageTab
from .explore_config import ALL, STATISTICS, ExploreConfig
from .explorer import Explorer
from .export_tab import ExportTab
from .images_tab import ImagesTab
from .runs_tab import RunsTab
from .view import View
from .widgets import STYLE, button, field, head

# Fields of the configuration that a widget holds unchanged.
_PLAIN = ("timestep", "taps", "tap", "poolings", "statistic", "plot")


def explore(
    config: ExploreConfig | None = None, widgets: bool | None = None, **parameters: object
) -> "Panel | View":
    """The explorer as widgets, or as still figures where the notebook runs without a viewer.

    Args:
        config: resolved; or its fields by name, as ``explore(dataset="demo", timesteps="1,50")``.
        widgets: True or False to choose; ``None`` detects it (False under papermill).
        parameters: fields of ``ExploreConfig``, without ``config``.

    Returns:
        An object that a notebook cell displays. Only the still view computes missing features.

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
    """Colab shows third-party widgets only after this call."""
    if "google.colab" in sys.modules:
        sys.modules["google.colab"].output.enable_custom_widget_manager()


class Panel(TaskBox):
    """Controls on the left; photographs, damage, runs and export in tabs on the right.

    Attributes:
        view: what is shown. quiet: whether controls are being set by the program.
    """

    def __init__(self, view: View) -> None:
        super().__init__(layout=w.Layout(width="100%"))
        self.view = view
        self.quiet = False
        side = self._side()
        self.images, self.damage = ImagesTab(self), DamageTab(self)
        self.runs, self.files = RunsTab(self), ExportTab(self)
        self._tabs = (self.images, self.damage, self.runs, self.files)
        for tab in self._tabs:
            self.controls += tab.controls
        self.tabs = w.Tab(
            self._tabs,
            titles=["Photographs", "Damage", "Two runs", "Export"],
            layout=w.Layout(flex="1 1 0", min_width="0"),
        )
        self.tabs.observe(lambda _: self.run_action(self._draw_tab), "selected_index")
        body = w.HBox([side, self.tabs], layout=w.Layout(width="100%"))
        self.children = [w.HTML(STYLE), body]
        self.run_action(self.show)

    def _side(self) -> w.VBox:
        poolings = {"mean + std": ("mean", "std"), **{name: (name,) for name in POOLINGS}}
        chosen = self.view.explorer.config.poolings
        if chosen not in poolings.values():
            poolings[" + ".join(chosen)] = chosen
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
        self.compute = button(
            "Compute", "play", lambda: self.run_in_background("computing", compute), flex="1"
        )
        self.compute.button_style = "primary"
        self.timestep = field(w.SelectionSlider, "timestep", options=[0], continuous_update=False)
        self.tap = field(w.Dropdown, "layer", options=[ALL])
        self.poolings = field(w.Dropdown, "pooling", options=poolings)
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
        self.controls = [*fields, *cached, self.compute, *shown]
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

    def choose(self, look: bool = False, **changes: object) -> None:
        """Change the view and show it. ``look``: see ``ImagesTab.draw``."""
        self.view.explorer.choose(**changes)
        self.show(look)

    def _chosen(self, **changes: object) -> None:
        if not self.quiet:
            self.run_action(lambda: self.choose(False, **changes))

    def _new_prompts(self, prompts: str) -> None:
        if not self.quiet:  # embedding a set for the first time takes a while
            explorer = self.view.explorer
            self.run_in_background("embedding prompts", lambda: explorer.choose(prompts=prompts))

    def _open(self) -> None:
        explorer = self.view.explorer
        changes: dict[str, object] = {
            "dataset": self.dataset.value,
            "data_root": self.data_root.value.strip() or None,
            "backbone": self.backbone.value.strip(),
        }
        if changes["dataset"] == explorer.config.dataset:  # else the new dataset's default
            changes["image_size"] = self.image_size.value
        self.run_in_background("opening", lambda: explorer.choose(**changes))

    def show(self, look: bool = False) -> None:
        """Update all controls and the open tab. ``look``: see ``ImagesTab.draw``."""
        self.damage.forget()
        self.sync_controls()
        self._draw_tab(look)
        coverage = self.view.explorer.coverage().to_numpy()
        self.show_message(
            f"{coverage.sum()} of {coverage.size} layers × timesteps are in the cache."
        )

    def _draw_tab(self, look: bool = False) -> None:
        tab = self._tabs[self.tabs.selected_index or 0]
        tab.draw(look) if isinstance(tab, ImagesTab) else tab.draw()
        self.show_command()

    def show_command(self) -> None:
        """Update the command in the export tab."""
        self.files.draw()

    def sync_controls(self) -> None:
        """Set all controls to the view."""
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
                dict.fromkeys([*block_taps(explorer.backbone.unet), *explorer.taps])
            )
            self.timestep.options = config.timesteps
            self.tap.options = {"all joined": ALL, **{tap: tap for tap in explorer.taps}}
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
                first, chosen = next(iter(box.options)), getattr(config, name)
                # The chosen model may be a folder or the shipped student, not a run of the list.
                names = dict.fromkeys([*runs, *([chosen] if chosen else [])])
                box.options = {first: None, **{run: run for run in names}}
                box.value = chosen
        finally:
            self.quiet = False


def _number(text: str) -> int | str | None:
    """Typed text as a number, None if empty; other text is refused by the configuration."""
    text = text.strip()
    return int(text) if text.isdigit() else text or None


def _scored_runs() -> list[str]:
    table = list_runs()
    if not len(table):
        return []
    scored = (table["status"] == "completed") & table["test_srcc"].notna()
    return list(table.loc[scored, "name"])
