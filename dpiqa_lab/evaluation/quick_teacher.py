"""A teacher for those who have not trained one yet: tiny, seconds to train, and far from its best.

The decoder starts at a ridge fit to the tiny prior's features (``models.calibrate``), and ten steps
follow. It shows what an evaluation of a run looks like, not what the method can do.
"""

from pathlib import Path

from ..core.files import json_hash
from ..core.runs import Run
from ..datasets.dataset import QualityDataset
from ..training.config import TrainConfig
from ..training.teacher_run import train_teacher
from .judges import label_of

QUICK = "quick_teacher"
_SIZE = 128  # pixels


def quick_teacher(dataset: QualityDataset, device: str = "auto") -> Run:
    """Train it on the train part of a dataset, or reuse the run."""
    manifest = dataset.manifest
    content = json_hash(manifest.table[["hash", "mos", "split"]].to_numpy().tolist())[:8]
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
        run_name=f"quick-{label_of(dataset)}-{content}",
    )
    small = QualityDataset(manifest, "all", _SIZE)
    return train_teacher(config.resolve(), small)
