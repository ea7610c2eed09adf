"""A box of widgets that runs actions and reports their errors; long ones run in a thread."""

import threading
import warnings
from collections.abc import Callable
from html import escape

import ipywidgets as w

from ..core.errors import LabError
from ..core.progress import tracked
from .widgets import button, note


class Stopped(Exception):  # noqa: N818 - no error
    """The stop button was pressed."""


class TaskBox(w.VBox):
    """Runs one action at a time. Subclasses lay out ``stop``, ``progress`` and ``message``.

    Attributes:
        controls: widgets disabled while a background action runs.
        worker: thread of the last background action, ``None`` before the first.
    """

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.controls: list[w.Widget] = []
        self.worker: threading.Thread | None = None
        self._busy = self._stop = False
        self.stop = button("", "stop", self._request_stop, width="42px")
        self.stop.tooltip, self.stop.disabled = "Stop; finished batches stay in the cache", True
        self.progress = w.IntProgress(0, 0, 1, layout=w.Layout(width="auto", visibility="hidden"))
        self.message = w.HTML()

    def sync_controls(self) -> None:
        """Set all controls to the current state; after an error they return to it."""
        raise NotImplementedError

    def show(self) -> None:
        """Redraw everything, after a background action."""
        raise NotImplementedError

    def run_action(self, action: Callable[[], object]) -> None:
        """Run a short action; its error, or its last warning, is shown in the panel."""
        if self._busy:
            return
        try:
            with warnings.catch_warnings(record=True) as caught:
                action()
            if messages := [one.message for one in caught if one.category is UserWarning]:
                self.show_message(str(messages[-1]))
        except LabError as error:
            self.sync_controls()
            self.show_message(str(error), bad=True)
        except Exception as error:
            self.show_message(_unexpected(error), bad=True)
            raise

    def run_in_background(self, title: str, action: Callable[[], object]) -> None:
        """Run a long action in a thread, with progress bar and stop button."""
        if self._busy:
            return
        self._busy, self._stop = True, False
        for control in self.controls:
            control.disabled = True
        self.stop.disabled, self.progress.layout.visibility = False, "visible"
        self.show_message(title)
        self.worker = threading.Thread(target=self._work, args=(action,), daemon=True)
        self.worker.start()

    def _work(self, action: Callable[[], object]) -> None:
        def act() -> None:
            with tracked(self._update_progress):
                action()

        result = _outcome(act)
        for control in self.controls:
            control.disabled = False
        self.stop.disabled, self.progress.layout.visibility = True, "hidden"
        redrawn = _outcome(self.show)  # still busy: clicks meanwhile would interfere
        self._busy = False
        if outcome := result or redrawn:
            self.show_message(*outcome)

    def _update_progress(self, what: str, done: int, total: int) -> None:
        if self._stop:
            raise Stopped
        self.progress.max, self.progress.value = max(total, 1), done
        self.show_message(f"{what}: {done} of {total}")

    def _request_stop(self) -> None:
        self._stop, self.stop.disabled = True, True
        self.show_message("Stopping after this batch …")

    def show_message(self, text: str, bad: bool = False) -> None:
        """Show a sentence below the buttons; ``bad``: as an error."""
        self.message.value = note(escape(text), bad)


def _outcome(action: Callable[[], object]) -> tuple[str, bool] | None:
    """Run it; the message to show and whether it is an error, ``None`` after success."""
    try:
        action()
    except Stopped:
        return "Stopped; finished batches are in the cache.", False
    except LabError as error:
        return str(error), True
    except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to: shown in the panel
        return _unexpected(error), True
    return None


def _unexpected(error: Exception) -> str:
    return f"unexpected {type(error).__name__}: {error}"
