"""What the trainings of the two peers share: the run, its parts and its record."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from ..core.device import Compute, choose_compute, keep_freed_memory, make_deterministic
from ..core.runs import Run, open_run
from ..datasets.dataset import QualityDataset, load_dataset
from ..datasets.pixels import pixels_of
from ..datasets.splits import PARTS
from .checkpoints import drop_checkpoints
from .peer_config import PeerConfig

# A dataset, or its parts by name where they come from elsewhere: sequences of items.
Source = QualityDataset | Mapping[str, Sequence[dict]]


def run_peer(
    config: PeerConfig,
    dataset: Source | None,
    train: Callable[[Run, PeerConfig, Mapping[str, Sequence[dict]], Compute], dict],
) -> Run:
    """The run that ``config`` names: trained, continued, or reused where it is completed.

    Args:
        dataset: in place of the one that ``config`` names. Of sequences the run's name has to say
            which they are: their content is no part of the parameters that are compared.
        train: does the work with the parts, and gives what the summary is to hold.
    """
    compute = choose_compute(config.device, config.precision)
    make_deterministic()
    keep_freed_memory()
    with open_run(config.run_name, config.numbers(), compute) as run:
        if run.reused():
            return run
        print(f"run {run.path}\ncomputing on {compute}")
        notes = []
        if dataset is None:
            dataset = load_dataset(config.dataset, **config.dataset_options())
        if isinstance(dataset, QualityDataset):
            print(dataset, *dataset.manifest.notes, sep="\n")
            notes = list(dataset.manifest.notes)
            run.write_table("split", dataset.manifest.table[["name", "split"]])
            dataset = {part: dataset.part_of(part) for part in PARTS}
        record = train(run, config, dataset, compute)
        run.write_summary("completed", **record, notes=notes)
        drop_checkpoints(run.checkpoints)
        run.state = "completed"
        return run


def chosen(photographs: torch.utils.data.Dataset, config: PeerConfig) -> torch.utils.data.Dataset:
    """As many photographs of the train part as the config asks for, drawn by its seed."""
    if config.photographs is None or config.photographs >= len(photographs):
        return photographs
    order = np.random.default_rng(config.seed).permutation(len(photographs))
    return Subset(photographs, sorted(order[: config.photographs].tolist()))


@torch.no_grad()
def scored(
    model: nn.Module, part: Sequence[dict], config: PeerConfig, compute: Compute, batch: int = 16
) -> pd.DataFrame:
    """mos and score of a part, and name, split, subset and group where it has a table."""
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
    return pixels.to(compute.device, non_blocking=True).float().div(255)
