"""Shared by the trainings of the two peers: the run, its splits and its record."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from ..core.device import Compute, keep_freed_memory, make_deterministic
from ..core.experiment import experiment
from ..core.identity import Inputs
from ..core.runs import Run
from ..datasets.dataset import QualityDataset
from ..datasets.dataset_access import content_table
from ..datasets.images import unit_range
from ..datasets.pixels import Pixels, pixels_of
from ..datasets.split_schemes import SPLITS
from .checkpoints import drop_checkpoints
from .peer_config import PeerConfig

C = TypeVar("C", bound=PeerConfig)
# A dataset, or sequences of items by split.
Source = QualityDataset | Mapping[str, Sequence[dict]]


def run_peer(
    config: C,
    dataset: Source | None,
    train: Callable[[Run, C, Mapping[str, Sequence[dict]], Compute], dict],
    models: dict[str, dict] | None = None,
    rename: bool | None = None,
) -> Run:
    """The run that ``config`` names: trained, continued, or reused where it is completed.

    Args:
        dataset: in place of the one that ``config`` names.
        train: does the work with the splits, and gives the summary's content.
        rename: see ``experiment``.
    """
    make_deterministic()
    keep_freed_memory()
    if dataset is None:
        dataset = config.load_dataset()
    if isinstance(dataset, QualityDataset):
        inputs, notes = dataset.inputs(models), list(dataset.manifest.notes)
        splits: Any = {name: dataset.in_split(name) for name in SPLITS}
    else:
        splits, notes = dataset, []
        inputs = Inputs(content_table(dataset), models or {})
    compute = config.compute()
    run = experiment(
        config, inputs, lambda run: {**train(run, config, splits, compute), "notes": notes}, rename
    )
    drop_checkpoints(run.checkpoints)  # here, as a killed run may have come to its summary
    return run


def limit_images(images: Pixels, config: PeerConfig) -> Pixels | Subset:
    """``config.max_images`` of the train images, drawn by the seed."""
    if config.max_images is None or config.max_images >= len(images):
        return images
    order = np.random.default_rng(config.seed).permutation(len(images))
    return Subset(images, sorted(order[: config.max_images].tolist()))


@torch.no_grad()
def score_and_record(
    model: nn.Module, part: Sequence[dict], config: PeerConfig, compute: Compute, batch: int = 16
) -> pd.DataFrame:
    """mos and score of a split, and name, split, subset and group where it has a table."""
    assert config.image_size is not None
    model.eval()
    loader = DataLoader(pixels_of(part, config.image_size), batch, num_workers=config.workers)
    scores, labels = [], []
    for pixels, mos, _ in loader:
        with compute.autocast():
            output = model(to_images(pixels, compute))
        scores.append(output.score.float().cpu())
        labels.append(mos)
    found = {"mos": torch.cat(labels).numpy(), "score": torch.cat(scores).numpy()}
    table = getattr(part, "table", None)
    if table is None:
        return pd.DataFrame(found)
    kept = [name for name in ("split", "subset", "group") if name in table]
    known = {"name": table["name"], "mos": table["mos"], "score": found["score"]}
    return pd.DataFrame(known | {name: table[name] for name in kept})


def to_images(pixels: torch.Tensor, compute: Compute) -> torch.Tensor:
    """Pixels (b, 3, h, w) uint8 as images in [0,1] on the device."""
    return unit_range(pixels, compute.device)
