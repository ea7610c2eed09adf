"""PMT-IQA and Re-IQA as baselines: small models trained here, or Re-IQA's released encoders.

The default configs take minutes on two cores, from random weights: their results do not represent
the authors' models.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from ..core.cache import RowCache
from ..core.device import choose_compute
from ..core.files import json_hash
from ..core.progress import progress_bar
from ..datasets.dataset_access import content_of, mos_of
from ..models.fingerprint import fingerprint
from ..models.re_iqa import ReIqa, load_re_iqa
from ..ridge import fit_ridge
from ..training.peer_config import PeerConfig, PmtIqaConfig, QualityEncoderConfig
from ..training.pmt_iqa_run import load_pmt_iqa, train_pmt_iqa
from ..training.quality_encoder_run import load_quality_encoder, train_quality_encoder

_Config = TypeVar("_Config", bound=PeerConfig)
PMT_IQA_BUDGET = PmtIqaConfig(
    trunk="resnet18", image_size=256, crop_size=128, epochs=6, lr_every=2, max_images=1000
)
RE_IQA_BUDGET = QualityEncoderConfig(
    trunk="resnet18", image_size=256, crop_size=64, steps=400, max_images=1000
)


def pmt_iqa(
    train: Sequence, val: Sequence, test: Sequence, config: PmtIqaConfig = PMT_IQA_BUDGET
) -> dict[str, np.ndarray | str]:
    """``predictions`` (n,) of MOS for test by a PMT-IQA trained on train, and its ``run``.

    Args:
        config: without the dataset; a completed run on the same splits is reused.
    """
    run = train_pmt_iqa(_named(config, train, val), {"train": train, "val": val}, rename=True)
    model = load_pmt_iqa(run)
    # From files if available, as in training; one at a time to limit memory.
    paths = test.table["path"] if hasattr(test, "table") else None
    scores = [
        model.score([test[i]["image"] if paths is None else paths[i]], device=config.device)
        for i in progress_bar(range(len(test)), "scoring")
    ]
    return {"predictions": np.concatenate(scores).astype(float), "run": run.name}


def re_iqa(
    train: Sequence,
    val: Sequence,
    test: Sequence,
    quality: Path | str | None = None,
    content: Path | str | None = None,
    config: QualityEncoderConfig = RE_IQA_BUDGET,
) -> dict[str, np.ndarray | float | str]:
    """``predictions`` (n,) of MOS for test by ridge on features at two sizes, and its ``alpha``.

    Images keep the size of the datasets; features are cached.

    Args:
        quality, content: the authors' checkpoints. If neither is given, a small quality encoder is
            trained on train by ``config``, and the result has its ``run``.
    """
    result: dict[str, np.ndarray | float | str] = {}
    if quality is None and content is None:
        splits = {"train": train, "val": val}
        run = train_quality_encoder(_named(config, train, val), splits, rename=True)
        model = ReIqa([load_quality_encoder(run)]).eval()
        result["run"] = run.name
    else:
        model = load_re_iqa(quality, content)
    fit, choose, unseen = (features(model, split, config.device) for split in (train, val, test))
    ridge = fit_ridge(fit, mos_of(train), choose, mos_of(val))
    alpha = float(ridge["ridge"].alpha)
    return {"predictions": ridge.predict(unseen), "alpha": alpha, **result}


@torch.no_grad()
def features(model: ReIqa, dataset: Sequence, device: str = "auto") -> np.ndarray:
    """Features (n, ``model.width``) of a dataset's images, cached; sizes may differ."""
    compute = choose_compute(device, "float32")
    model.eval().to(compute.device)
    key = {
        "model": fingerprint(model),
        "image_size": getattr(dataset, "image_size", None),
    }

    def compute_row(positions: list[int]) -> dict[str, torch.Tensor]:
        image = dataset[positions[0]]["image"]
        return {"features": model(image[None].to(compute.device))}

    rows = RowCache("re_iqa", key).rows(
        content_of(dataset),
        compute_row,
        batch_size=1,
        prepare=lambda batches: progress_bar(batches, "features"),
    )
    return rows["features"].double().numpy()


def _named(config: _Config, train: Sequence, val: Sequence) -> _Config:
    """The config with a run name derived from the training images and scores."""
    known = getattr(train, "manifest", None)
    labels = [[content_of(split), mos_of(split).tolist()] for split in (train, val)]
    sizes = [getattr(split, "image_size", None) for split in (train, val)]
    name = f"{config.kind.replace('_', '-')}-{json_hash([config.identity(), labels, sizes])[:12]}"
    source = known.spec.name if known else "parts"
    return dataclasses.replace(config, run_name=name, dataset=source)
