"""Scorers from names or objects: runs, baselines, pyiqa metrics, functions, tables."""

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from ..core.device import choose_compute
from ..core.errors import LabError
from ..core.files import json_hash
from ..core.runs import Run, find_run
from ..datasets.dataset import QualityDataset
from ..datasets.images import read_image, to_tensor
from ..training.load_model import load_model
from ..training.teacher_config import TrainConfig
from ..training.teacher_run import train_teacher
from .baselines import BASELINES
from .scorers import (
    BaselineScorer,
    FunctionScorer,
    ModelScorer,
    Scorer,
    TableScorer,
    label_of,
)

QUICK = "quick_teacher"
_QUICK_SIZE = 128  # pixels


def resolve_scorer(model: object, name: str | None = None, device: str = "auto") -> Scorer:
    """A ``Scorer`` for a model.

    Args:
        model: name or folder of a run; ``predictions:<run>``, its stored scores; a name of
            ``BASELINES``; ``pyiqa:<metric>``; or in Python a ``Run``, a table with the columns name
            and score, a model with ``score``, a function from paths to scores, a ``Scorer``.
        name: label in tables; ``None``: the model's own.

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
        found: Run | None = None
        with contextlib.suppress(LabError):  # a model without a run
            found = find_run(model)
        named = name or (found.name if found else str(model))
        return ModelScorer(named, lambda: load_model(model), found, device)
    if callable(getattr(model, "score", None)):
        return ModelScorer(name or type(model).__name__, lambda: model, None, device)
    if callable(model):
        return FunctionScorer(name or str(getattr(model, "__name__", type(model).__name__)), model)
    raise LabError(
        f"a model is a run, a table, a function or one of {', '.join(BASELINES)}; got {model!r}."
    )


def resolve_scorers(
    named: Iterable[tuple[str | None, object]], device: str = "auto"
) -> list[Scorer]:
    """Several scorers, each with a name or ``None``; LabError if names repeat."""
    scorers = [resolve_scorer(model, name, device) for name, model in named]
    names = [scorer.name for scorer in scorers]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise LabError(f"two models are called {', '.join(twice)}: give them names, as a mapping.")
    return scorers


def quick_teacher(dataset: QualityDataset, device: str = "auto") -> Run:
    """A tiny teacher trained on a dataset in seconds, or its existing run.

    The decoder starts at a ridge fit to the tiny prior's features (``models.initialization``), and
    ten steps follow. It demonstrates the evaluation of a run, not the accuracy of the method.
    """
    manifest = dataset.manifest
    config = TrainConfig(
        dataset=manifest.spec.name,
        data_root=str(Path(manifest.root).resolve()),
        mos_range=manifest.mos_range,
        lower_better=manifest.lower_better,
        image_size=_QUICK_SIZE,
        backbone="tiny",
        prompts="none",
        trainable="decoder",
        max_steps=10,
        validate_every=10,
        device=device,
    ).resolve()
    # The config cannot identify the images and splits of the given dataset.
    content = manifest.table[["hash", "mos", "split"]].to_numpy().tolist()
    named = f"quick-{label_of(dataset)}-{json_hash([content, config.identity()])[:8]}"
    config = dataclasses.replace(config, run_name=named)
    return train_teacher(config, QualityDataset(manifest, "all", _QUICK_SIZE), rename=True)


class PyiqaScorer(Scorer):
    """A no-reference metric of the optional package pyiqa."""

    def __init__(self, name: str, metric: str, device: str = "auto") -> None:
        super().__init__(name)
        try:
            import pyiqa
        except ImportError as error:
            raise LabError(f"{name} needs the package pyiqa: pip install pyiqa.") from error
        try:
            self.metric = pyiqa.create_metric(metric, device=choose_compute(device).device)
        except Exception as error:  # pyiqa raises several types for an unknown name
            raise LabError(f"{name}: pyiqa has no such metric ({error}).") from error
        if getattr(self.metric, "metric_mode", "NR") != "NR":
            raise LabError(f"{name} compares with an undamaged picture; name one without (NR).")
        self._key = {"pyiqa": metric, "version": getattr(pyiqa, "__version__", "")}

    def key(self, dataset: QualityDataset) -> dict | None:  # noqa: ARG002 - interface
        """See ``Scorer``."""
        return self._key

    def predict(self, dataset: QualityDataset, photographs: QualityDataset) -> Sequence[float]:  # noqa: ARG002 - interface
        """See ``Scorer``: at the image's own size; lower-is-better metrics are negated."""
        sign = -1.0 if self.metric.lower_better else 1.0
        images = (to_tensor(read_image(path))[None] for path in photographs.table["path"])
        return [sign * float(self.metric(image)) for image in images]
