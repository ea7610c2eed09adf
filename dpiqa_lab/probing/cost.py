"""Cost of feature extraction, compared with the minimum and with simpler methods."""

import tempfile
import time
from collections.abc import Callable, Sequence

import pandas as pd
import torch

from ..core.device import Compute, choose_compute, keep_freed_memory, synchronize
from ..datasets.dataset import QualityDataset
from ..diffusion.attention_maps import attention_maps_of
from ..diffusion.backbone import Backbone
from ..diffusion.taps import FeatureTaps
from .features import extract_features


@torch.no_grad()
def extraction_cost(
    backbone: Backbone,
    dataset: QualityDataset,
    timesteps: Sequence[int],
    taps: Sequence[str],
    prompts: str | Sequence[str] | None = None,
    compute: Compute | None = None,
    batch_size: int = 8,
) -> pd.DataFrame:
    """Seconds per image of four methods for the same features, in the same precision.

    "one sweep" is ``extract_features`` into an empty cache, including reading. "one VAE
    pass, a U-Net pass a timestep" is the minimum for taps at the end of the U-Net, with images in
    memory. The others repeat VAE and U-Net for each timestep, or for each timestep and tap; for
    the last, one tap is timed and multiplied.

    Args:
        dataset: a few images; all are used.

    Returns:
        A row per method: way, seconds (per image), ratio (to the sweep's).
    """
    compute = compute or choose_compute()
    backbone.to(compute.device)
    embeddings = backbone.embed_prompts(prompts)
    positions = range(len(dataset))
    batches = [positions[i : i + batch_size] for i in range(0, len(positions), batch_size)]
    images = [torch.stack([dataset[i]["image"] for i in batch]) for batch in batches]

    def one_pass(latents: torch.Tensor, timestep: int, names: Sequence[str] = ()) -> None:
        maps = attention_maps_of(backbone, names, prompts)
        with compute.autocast(), maps, FeatureTaps(backbone.unet, names) as found:
            backbone.denoise(latents, timestep, embeddings)
        for name in names:
            found[name].float().mean(-1).cpu()

    def sweep() -> None:
        with tempfile.TemporaryDirectory() as folder:
            extract_features(
                backbone, dataset, timesteps, taps, prompts,
                cache_dir=folder, compute=compute, batch_size=batch_size,
            )  # fmt: skip

    def floor() -> None:
        for batch in images:
            latents = backbone.encode(batch)
            for timestep in timesteps:
                one_pass(latents, timestep)

    def a_timestep_each() -> None:
        for timestep in timesteps:
            for batch in images:
                one_pass(backbone.encode(batch), timestep, taps)

    def a_tap_each() -> None:
        for timestep in timesteps:
            for batch in images:
                one_pass(backbone.encode(batch), timestep, taps[-1:])

    # Warm-up.
    keep_freed_memory()
    one_pass(backbone.encode(images[0]), timesteps[0], taps)
    ways = {
        "one sweep": (sweep, 1),
        "one VAE pass, a U-Net pass a timestep": (floor, 1),
        "VAE and U-Net for each timestep": (a_timestep_each, 1),
        "VAE and U-Net for each timestep and tap": (a_tap_each, len(taps)),
    }
    seconds = {way: times * _timed(run, compute) for way, (run, times) in ways.items()}
    table = pd.DataFrame({"way": list(seconds), "seconds": list(seconds.values())})
    table["seconds"] /= len(dataset)
    return table.assign(ratio=table["seconds"] / table["seconds"].iloc[0])


def _timed(run: Callable[[], None], compute: Compute) -> float:
    start = time.perf_counter()
    run()
    synchronize(compute.device)
    return time.perf_counter() - start
