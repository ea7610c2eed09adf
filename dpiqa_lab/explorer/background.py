"""A box of widgets that does what is asked and says how it went; long work beside the notebook."""

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


class WorkingBox(w.VBox):
    """Actions, one at a time. Who inherits it lays out ``stop``, ``progress`` and ``message``.

    Attributes:
        controls: what is disabled during long work. worker: the thread of the last one.
    """

    def __init__(self, **options):
        super().__init__(**options)
        self.controls: list[w.Widget] = []
        self.worker = None
        self._busy = self._stop = False
        self.stop = button("", "stop", self._ask_stop, width="42px")
        self.stop.tooltip, self.stop.disabled = "Stop; what is done is kept", True
        self.progress = w.IntProgress(0, 0, 1, layout=w.Layout(width="auto", visibility="hidden"))
        self.message = w.HTML()

    def fill(self) -> None:
        """All controls as what is shown is; after an error they go back to it."""
        raise NotImplementedError

    def show(self) -> None:
        """Everything anew, after long work."""
        raise NotImplementedError

    def told(self, action: Callable[[], None]) -> None:
        """Run it; what goes wrong, and what it warns of, is said in the panel."""
        if self._busy:
            return
        try:
            with warnings.catch_warnings(record=True) as caught:
                action()
            if told := [one.message for one in caught if one.category is UserWarning]:
                self.say(str(told[-1]))
        except LabError as error:
            self.fill()  # the controls go back to what is shown
            self.say(str(error), bad=True)
        except Exception as error:
            self.say(f"unexpected {type(error).__name__}: {error}", bad=True)
            raise

    def work(self, what: str, action: Callable[[], None]) -> None:
        """Run what takes long beside the notebook, with bar and stop button; one at a time."""
        if self._busy:
            return
        self._busy, self._stop = True, False
        for control in self.controls:
            control.disabled = True
        self.stop.disabled, self.progress.layout.visibility = False, "visible"
        self.say(what)
        self.worker = threading.Thread(target=self._worked, args=(action,), daemon=True)
        self.worker.start()

    def _worked(self, action: Callable[[], None]) -> None:
        def act():
            with tracked(self._watch):
                action()

        said, bad = self._outcome(act)
        for control in self.controls:
            control.disabled = False
        self.stop.disabled, self.progress.layout.visibility = True, "hidden"
        shown = self._outcome(self.show)  # still busy: clicks meanwhile would mix with it
        self._busy = False
        if said or shown[0]:
            self.say(*((said, bad) if said else shown))

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
        self.say(f"{what}: {done} of {total}")

    def _ask_stop(self) -> None:
        self._stop, self.stop.disabled = True, True
        self.say("Stopping after this batch …")

    def say(self, text: str, bad: bool = False) -> None:
        """Show a sentence below the buttons."""
        self.message.value = note(escape(text), bad)
