"""The two peers as baselines: trained in small on the parts given, or Re-IQA's released encoders.

The default configs are budgets for two cores, minutes each, from random weights: what they reach
says what the idea gives for that, and nothing of what the authors' models do.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

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
        config: all but what says which dataset; a completed run on the same parts is reused.
    """
    run = train_pmt_iqa(_named(config, train, val), {"train": train, "val": val}, rename=True)
    model = load_pmt_iqa(run)
    # As it was trained: from files, where there are any. One at a time: never all in memory.
    files = hasattr(test, "table")
    scores = [
        model.score([test.table["path"][i] if files else test[i]["image"]], device=config.device)
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

    Photographs keep the size that the parts give them; features are kept in the cache.

    Args:
        quality, content: the authors' checkpoints. Where neither is given a small quality encoder
            is trained on train, by ``config``; its ``run`` is named in the result.
    """
    result = {}
    if quality is None and content is None:
        parts = {"train": train, "val": val}
        run = train_quality_encoder(_named(config, train, val), parts, rename=True)
        model = ReIqa([load_quality_encoder(run)]).eval()
        result["run"] = run.name
    else:
        model = load_re_iqa(quality, content)
    fit, choose, unseen = (features(model, part, config.device) for part in (train, val, test))
    ridge = fit_ridge(fit, mos_of(train), choose, mos_of(val))
    alpha = float(ridge["ridge"].alpha)
    return {"predictions": ridge.predict(unseen), "alpha": alpha, **result}


@torch.no_grad()
def features(model: ReIqa, dataset: Sequence, device: str = "auto") -> np.ndarray:
    """Features (n, ``model.width``) of a part's photographs, from the cache where they are known.

    One photograph at a time: they may differ in size.
    """
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


def _named(config: PeerConfig, train: Sequence, val: Sequence) -> PeerConfig:
    """The config with a run name that says on which photographs and scores it is trained."""
    known = getattr(train, "manifest", None)
    told = [[content_of(part), mos_of(part).tolist()] for part in (train, val)]
    sizes = [getattr(part, "image_size", None) for part in (train, val)]
    name = f"{config.kind.replace('_', '-')}-{json_hash([config.identity(), told, sizes])[:12]}"
    source = known.spec.name if known else "parts"
    return dataclasses.replace(config, run_name=name, dataset=source)
