"""Models by what a person calls them: a run, a baseline, a metric of pyiqa, a function, a table."""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from ..core.device import choose_compute
from ..core.errors import LabError
from ..core.runs import Run, find_run
from ..datasets.dataset import QualityDataset
from ..datasets.images import read_image, to_tensor
from ..training.load_model import load_model
from .baselines import BASELINES
from .scorers import BaselineScorer, FunctionScorer, ModelScorer, Scorer, TableScorer


def resolve_scorer(model, name: str | None = None, device: str = "auto") -> Scorer:
    """A model under one interface.

    Args:
        model: name or folder of a run; ``predictions:<run>``, the scores it has written; a name of
            ``BASELINES``; ``pyiqa:<metric>``; or in Python a ``Run``, a table with the columns name
            and score, a model with ``score``, a function from paths to scores, a ``Scorer``.
        name: to call it by; ``None`` takes the one it has.

    Raises:
        LabError: none of these, no such run, or pyiqa is not installed.
    """
    if isinstance(model, Scorer):
        return model
    if isinstance(model, Run):
        return ModelScorer(name or model.name, lambda: load_model(model.path), model, device)
    if isinstance(model, pd.DataFrame):
        return TableScorer(name or "predictions", model)
    if isinstance(model, str) and model in BASELINES:
        return BaselineScorer(name or model, model)
    if isinstance(model, str) and model.startswith("pyiqa:"):
        return PyiqaScorer(name or model, model.removeprefix("pyiqa:"), device)
    if isinstance(model, str) and model.startswith("predictions:"):
        run = find_run(model.removeprefix("predictions:"))
        return TableScorer(name or run.name, run.predictions(), run)
    if isinstance(model, str | Path):
        run = None
        with contextlib.suppress(LabError):  # a model that came without a run of its own
            run = find_run(model)
        named = name or (run.name if run else str(model))
        return ModelScorer(named, lambda: load_model(model), run, device)
    if callable(getattr(model, "score", None)):
        return ModelScorer(name or type(model).__name__, lambda: model, None, device)
    if callable(model):
        return FunctionScorer(name or getattr(model, "__name__", type(model).__name__), model)
    raise LabError(
        f"a model is a run, a table, a function or one of {', '.join(BASELINES)}; got {model!r}."
    )


def resolve_scorers(
    named: Iterable[tuple[str | None, object]], device: str = "auto"
) -> list[Scorer]:
    """Several, each with a name or ``None``; LabError where two have one name."""
    scorers = [resolve_scorer(model, name, device) for name, model in named]
    names = [scorer.name for scorer in scorers]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise LabError(f"two models are called {', '.join(twice)}: give them names, as a mapping.")
    return scorers


class PyiqaScorer(Scorer):
    """A metric without reference of the package pyiqa, where that is installed."""

    def __init__(self, name: str, metric: str, device: str = "auto") -> None:
        super().__init__(name)
        try:
            import pyiqa
        except ImportError as error:
            raise LabError(f"{name} needs the package pyiqa: pip install pyiqa.") from error
        try:
            self.metric = pyiqa.create_metric(metric, device=choose_compute(device).device)
        except Exception as error:  # it raises several kinds for a name it does not know
            raise LabError(f"{name}: pyiqa has no such metric ({error}).") from error
        if getattr(self.metric, "metric_mode", "NR") != "NR":
            raise LabError(f"{name} compares with an undamaged picture; name one without (NR).")
        self._key = {"pyiqa": metric, "version": getattr(pyiqa, "__version__", "")}

    def key(self, dataset: QualityDataset) -> dict | None:
        """See ``Scorer``."""
        return self._key

    def predict(self, dataset: QualityDataset, photographs: QualityDataset) -> Sequence[float]:
        """See ``Scorer``: at each photograph's own size; a metric of damage is turned round."""
        sign = -1.0 if self.metric.lower_better else 1.0
        images = (to_tensor(read_image(path))[None] for path in photographs.table["path"])
        return [sign * float(self.metric(image)) for image in images]
