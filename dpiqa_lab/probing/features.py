"""Pooled U-Net features of images, cached per image, timestep and tap."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F

from ..core.cache import RowCache, Rows, shared_rows
from ..core.device import Compute, choose_compute
from ..core.errors import LabError, unknown
from ..core.files import tensors_hash
from ..core.progress import progress_bar
from ..datasets.dataset import QualityDataset
from ..datasets.image_set import ImageSet
from ..diffusion.attention import fixed_prompts
from ..diffusion.attention_maps import attention_maps_of, is_map
from ..diffusion.backbone import Backbone
from ..diffusion.latents import content_noise, dataset_latents
from ..diffusion.prompts import FACTORS
from ..diffusion.taps import FeatureTaps, block_taps
from ..nn.tensor_memo import memoize_tensors

POOLINGS = ("mean", "std", "max", "grid")


class Features:
    """Pooled features of a dataset, images in its order.

    ``features[timestep, tap, pooling]`` is a (n, channels) float32 tensor; (n, 4 x channels) for
    "grid", the means of the four quarters. Channels of attention maps are the factors.
    ``features.table`` is the dataset's table.
    """

    def __init__(
        self, rows: dict[tuple[int, str], dict[str, torch.Tensor]], table: pd.DataFrame
    ) -> None:
        self._rows = rows
        self.table = table
        self.timesteps = sorted({timestep for timestep, _ in rows})
        self.taps = list(dict.fromkeys(tap for _, tap in rows))

    def __getitem__(self, key: tuple[int, str, str]) -> torch.Tensor:
        timestep, tap, pooling = key
        if timestep not in self.timesteps or tap not in self.taps:
            raise LabError(
                f"no features of {tap!r} at timestep {timestep}: extracted are "
                f"{', '.join(self.taps)} at {', '.join(map(str, self.timesteps))}."
            )
        if pooling not in POOLINGS:
            raise unknown("pooling", pooling, POOLINGS)
        return self._rows[timestep, tap][pooling]

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return (
            f"Features of {len(self)} images: {len(self.taps)} taps at timesteps "
            f"{', '.join(map(str, self.timesteps))}, pooled by {', '.join(POOLINGS)}"
        )


class FeatureStore:
    """Cache entries of a dataset's pooled features, for one backbone, prompt set and noise.

    Arguments as for ``extract_features``. Computes nothing.
    """

    def __init__(
        self,
        backbone: Backbone,
        dataset: QualityDataset | ImageSet,
        prompts: str | Sequence[str] | None = None,
        noise_seed: int | None = None,
        cache_dir: Path | str | None = None,
        compute: Compute | None = None,
        factors: Sequence[str] = FACTORS,
    ) -> None:
        compute = compute or choose_compute()
        self.ids = list(dataset.table["hash"])
        self.cache_dir = cache_dir
        self.factors = list(factors)
        self._seen: set[tuple[int, str]] = set()
        self.key: dict[str, object] = {
            "unet": backbone.unet_hash(),
            "vae": backbone.vae_hash(),
            "prompts": tensors_hash({"prompts": backbone.embed_prompts(prompts)}),
            "image_size": dataset.image_size,
            "noise_seed": noise_seed,
            "precision": compute.precision,
        }

    def entry(self, timestep: int, tap: str) -> RowCache:
        """Cache of the features of one tap at one timestep."""
        key = {**self.key, "timestep": timestep, "tap": tap}
        if is_map(tap):
            key["factors"] = self.factors
        return RowCache("features", key, self.cache_dir)

    def has(self, timestep: int, tap: str) -> bool:
        """Whether the cache holds them for all images; a positive answer is remembered."""
        if (timestep, tap) not in self._seen and self.entry(timestep, tap).held() >= set(self.ids):
            self._seen.add((timestep, tap))
        return (timestep, tap) in self._seen

    def load(self, timestep: int, tap: str) -> Rows:
        """Features by pooling; LabError if any image lacks them."""

        def refuse(positions: Sequence[int] = ()) -> Rows:  # noqa: ARG001 - as ``rows`` calls it
            raise LabError(f"no features of {tap!r} at timestep {timestep} yet: compute them.")

        if not self.has(timestep, tap):  # else ``rows`` could wait for a process that computes them
            refuse()
        return self.entry(timestep, tap).rows(self.ids, refuse)


def extract_features(
    backbone: Backbone,
    dataset: QualityDataset | ImageSet,
    timesteps: Sequence[int] = (1,),
    taps: Sequence[str] | None = None,
    prompts: str | Sequence[str] | None = None,
    noise_seed: int | None = None,
    cache_dir: Path | str | None = None,
    compute: Compute | None = None,
    batch_size: int = 8,
    workers: int = 0,
    factors: Sequence[str] = FACTORS,
) -> Features:
    """One U-Net pass per image and timestep, every tap pooled over its positions.

    Only what the cache lacks is computed.

    Args:
        dataset: with an ``image_size`` that fits the U-Net.
        timesteps: each 0 to 999.
        taps: module paths of the U-Net, or of its attention maps (``attention_maps.map_taps``);
            ``None`` is its mid block and up blocks.
        prompts: prompt set; ``None`` is the backbone's default.
        noise_seed: add the timestep's noise to the latents, drawn by this seed and the
            image's content; ``None`` adds none, as in the paper.
        cache_dir: ``None`` is the default.
        batch_size: images per pass.
        factors: words that attention maps are summed over, see ``prompts.factor_members``.

    Raises:
        LabError: an impossible timestep, an unknown tap, a factor that is in no prompt, or a
            size that does not fit the U-Net.
    """
    if bad := [t for t in timesteps if not 0 <= t < 1000]:
        raise LabError(f"timesteps must be between 0 and 999, got {bad}.")
    unet = backbone.unet
    taps = taps or block_taps(unet, down=False)
    with attention_maps_of(backbone, taps, prompts, factors):
        FeatureTaps(unet, taps)  # checks the names before any work
    compute = compute or choose_compute()
    backbone.to(compute.device)
    store = FeatureStore(backbone, dataset, prompts, noise_seed, cache_dir, compute, factors)
    ids = store.ids
    caches = {(timestep, tap): store.entry(timestep, tap) for timestep in timesteps for tap in taps}
    # A copy, as memoized projections are keyed by tensor and a caller's may have another precision.
    embeddings = backbone.embed_prompts(prompts).clone()
    # Not compiled, as cache keys do not include that.
    plain = dataclasses.replace(compute, compile=False)

    @functools.cache
    def latents() -> torch.Tensor:  # only read if something is to be computed
        return dataset_latents(backbone, dataset, compute, workers=workers, cache_dir=cache_dir)

    def features_of(
        wanted: list[tuple[int, str]], positions: list[int]
    ) -> dict[tuple[int, str], Rows]:
        times = sorted({timestep for timestep, _ in wanted})
        names = list(dict.fromkeys(tap for _, tap in wanted))
        z = latents()[positions].to(compute.device)
        if noise_seed is not None:
            noise = torch.stack([content_noise(ids[i], noise_seed, z.shape[1:]) for i in positions])
            noise = noise.to(z)
        found: dict[tuple[int, str], Rows] = {}
        with plain.autocast(), attention_maps_of(backbone, names, prompts, factors):
            # One pass per timestep: joint batches round differently, and results must not depend
            # on which other timesteps are requested. On a CPU joint batches are not faster.
            for t in times:
                noised = z if noise_seed is None else backbone.add_noise(z, noise, t)
                with FeatureTaps(unet, names, stop=True, copy=False) as outputs:
                    backbone.denoise(noised, t, embeddings)
                found |= {(t, name): pool(outputs[name].float()) for name in names}
        return found

    def feature_of(place: tuple[int, str], positions: list[int]) -> Rows:
        return features_of([place], positions)[place]

    rows: dict[tuple[int, str], Rows] = {}
    # Converted weights and prompt projections are computed once for all batches.
    with torch.no_grad(), memoize_tensors(), fixed_prompts(unet):
        for names, times in _missing_taps(caches, ids).items():
            wanted = [(timestep, tap) for timestep in times for tap in names]
            latents()  # has its own progress bar
            rows |= shared_rows(
                {place: caches[place] for place in wanted},
                ids,
                functools.partial(features_of, wanted),
                batch_size,
                lambda batches: progress_bar(batches, "extracting features"),
            )
        for place in caches:
            if place not in rows:  # cached; recomputes only damaged entries
                rows[place] = caches[place].rows(ids, functools.partial(feature_of, place))
    return Features({place: rows[place] for place in caches}, dataset.table)


def _missing_taps(
    caches: dict[tuple[int, str], RowCache], ids: Sequence[str]
) -> dict[tuple[str, ...], list[int]]:
    """Incompletely cached taps, with the timesteps at which the same taps are incomplete."""
    taps: dict[int, tuple[str, ...]] = {}
    for (timestep, tap), cache in caches.items():
        if cache.missing(ids):
            taps[timestep] = (*taps.get(timestep, ()), tap)
    return {names: [t for t in taps if taps[t] == names] for names in set(taps.values())}


def pool(maps: torch.Tensor) -> dict[str, torch.Tensor]:
    """Statistics over positions of maps (b, c, h, w), or of sequences (b, positions, c)."""
    if maps.ndim == 3:
        maps = maps.transpose(1, 2)[..., None]
    flat = maps.flatten(2)
    mean = flat.mean(2)
    return {
        "mean": mean,
        # Equals flat.std(2, correction=0), six times faster on a CPU.
        "std": torch.linalg.vector_norm(flat - mean[..., None], dim=2) / flat.shape[2] ** 0.5,
        "max": flat.amax(2),
        "grid": F.adaptive_avg_pool2d(maps, (2, 2) if maps.shape[3] > 1 else (4, 1)).flatten(1),
    }
