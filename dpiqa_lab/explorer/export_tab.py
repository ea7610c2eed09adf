"""The explorer's tab of export: figures and tables to files."""

from html import escape
from typing import TYPE_CHECKING

import ipywidgets as w

from .widgets import button, field, head, note, row

if TYPE_CHECKING:
    from .app import Panel


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
