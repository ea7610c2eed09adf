"""``train_quality_encoder``: features of distortions from images without scores."""

from collections.abc import Mapping, Sequence

import torch

from ..core.device import Compute
from ..core.errors import LabError
from ..core.runs import Run
from ..datasets.pixels import pixels_of
from ..models.re_iqa import QualityEncoder
from .checkpoints import find_weights, restore
from .contrastive import ContrastiveTask, Projected
from .loop import Schedule, fit_and_save_last
from .peer_config import QualityEncoderConfig
from .peer_run import Source, limit_images, run_peer


def train_quality_encoder(
    config: QualityEncoderConfig, dataset: Source | None = None, rename: bool | None = None
) -> Run:
    """Train a quality encoder on a train part, or continue or reuse the run of that name.

    Scores are not used; the val split selects the weights.

    Args:
        config: a resolved config.
        dataset, rename: see ``train_pmt_iqa``.

    Raises:
        LabError: bad input, or photographs smaller than a crop.
    """
    assert config.image_size is not None
    if config.image_size < config.crop_size:
        raise LabError(
            f"crop_size {config.crop_size} is over image_size {config.image_size}: lower it."
        )
    return run_peer(config, dataset, _train, rename=rename)


def load_quality_encoder(run: Run, weights: str = "best") -> QualityEncoder:
    """The encoder of a run, without the head of its training.

    Raises:
        LabError: the run has no such weights yet.
    """
    network = Projected(QualityEncoder(run.config["trunk"]))
    restore(network.load_run_state, find_weights(run, weights))
    return network.encoder.eval()


def _train(
    run: Run, config: QualityEncoderConfig, parts: Mapping[str, Sequence[dict]], compute: Compute
) -> dict:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = Projected(QualityEncoder(config.trunk))
    assert config.image_size is not None
    train, val = (pixels_of(parts[name], config.image_size) for name in ("train", "val"))
    task = ContrastiveTask(network, limit_images(train, config), val, config, compute)
    schedule = Schedule(
        steps_per_epoch=config.steps,
        epochs=1,
        learning_rate=config.learning_rate,
        validate_every=config.validate_every,
        warmup_steps=min(50, config.steps // 10),
        cosine=True,
    )
    record = fit_and_save_last(run, task, schedule, compute)
    history = run.history()
    best = history[history["step"] == record["best_step"]].iloc[-1]
    return {
        "metrics": {"val": {name: best[f"val_{name}"] for name in ("found", "contrastive")}},
        **record,
    }
