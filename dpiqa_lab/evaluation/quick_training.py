"""A teacher for those who have not trained one yet: tiny, seconds to train, and far from its best.

The decoder starts at a ridge fit to the tiny prior's features (``models.calibrate``), and ten steps
follow. It shows what an evaluation of a run looks like, not what the method can do.
"""

import dataclasses
from pathlib import Path

from ..core.files import json_hash
from ..core.runs import Run
from ..datasets.dataset import QualityDataset
from ..training.teacher_config import TrainConfig
from ..training.teacher_run import train_teacher
from .scorers import label_of

QUICK = "quick_teacher"
_SIZE = 128  # pixels


def quick_teacher(dataset: QualityDataset, device: str = "auto") -> Run:
    """Train it on the train part of a dataset, or reuse the run."""
    manifest = dataset.manifest
    config = TrainConfig(
        dataset=manifest.spec.name,
        data_root=str(Path(manifest.root).resolve()),
        mos_range=manifest.mos_range,
        lower_better=manifest.lower_better,
        image_size=_SIZE,
        backbone="tiny",
        prompts="none",
        trainable="decoder",
        max_steps=10,
        validate_every=10,
        device=device,
    ).resolve()
    # The photographs and parts are those of the dataset as given, which the config cannot name.
    content = manifest.table[["hash", "mos", "split"]].to_numpy().tolist()
    named = f"quick-{label_of(dataset)}-{json_hash([content, config.identity()])[:8]}"
    config = dataclasses.replace(config, run_name=named)
    return train_teacher(config, QualityDataset(manifest, "all", _SIZE), rename=True)
