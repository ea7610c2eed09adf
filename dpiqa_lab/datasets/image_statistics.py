"""Hand-crafted image statistics: brightness, sharpness, colour, noise."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch.nn.functional import conv2d

from ..core.cache import RowCache
from ..core.errors import LabError
from ..core.progress import progress_bar
from .dataset import QualityDataset

STATISTICS = (
    "luma_mean",  # [0, 1]
    "luma_std",  # [0, 0.5]: contrast
    "laplacian_log_variance",  # ln: sharpness
    "gradient_log_mean",  # ln: sharpness
    "colourfulness",  # from 0, as published for pixels in 0 to 255
    "saturation_mean",  # [0, 1]: of HSV
    "dark_fraction",  # [0, 1]: pixels with luma of at most 5/255
    "bright_fraction",  # [0, 1]: pixels with luma of at least 250/255
    "entropy",  # [0, 8] bits: of luma in 256 levels
    "noise_log",  # ln: standard deviation of the noise
)

_BT601 = (0.299, 0.587, 0.114)
_LAPLACIAN = ((0, 1, 0), (1, -4, 1), (0, 1, 0))
# Immerkaer's mask: the difference of two Laplacians, which cancels edges.
_NOISE = ((1, -2, 1), (-2, 4, -2), (1, -2, 1))
# Keep the logarithms finite on a constant image; well below the step of 8-bit pixels.
_FLOOR, _FLOOR_SQUARED = 1e-4, 1e-8


@torch.no_grad()
def image_statistics(images: torch.Tensor | np.ndarray) -> np.ndarray:
    """`STATISTICS` of RGB images, float64 (b, 10), or (1, 10) for one.

    ``images``: (b, 3, H, W) or (3, H, W), uint8 or floats in [0, 1], H and W of at least 3. Luma is
    ITU-R BT.601's; colourfulness is Hasler & Suesstrunk's (2003), the noise estimate Immerkaer's
    (1996). Borders are left out, as padding would add edges.

    Raises:
        LabError: another shape, or floats outside [0, 1].
    """
    rgb = _unit_rgb(torch.as_tensor(images))
    red, green, blue = rgb.unbind(1)
    luma = luma_of(rgb)
    flat = luma.flatten(1)
    levels = _levels(flat)
    across, down = luma[:, :-1].diff(dim=2), luma[:, :, :-1].diff(dim=1)
    noise = (torch.pi / 2) ** 0.5 / 6 * _filtered(luma, _NOISE).abs().mean(1)
    largest = rgb.amax(1)
    saturation = (largest - rgb.amin(1)) / largest.clamp_min(1e-6)
    columns = (
        flat.mean(1),
        _std(flat),
        (_std(_filtered(luma, _LAPLACIAN)) ** 2 + _FLOOR_SQUARED).log(),
        (torch.hypot(across, down).flatten(1).mean(1) + _FLOOR).log(),
        _colourfulness((red - green).flatten(1), ((red + green) / 2 - blue).flatten(1)),
        saturation.flatten(1).mean(1),
        (levels <= 5).float().mean(1),
        (levels >= 250).float().mean(1),
        _entropy(levels),
        (noise + _FLOOR).log(),
    )
    return torch.stack(columns, dim=1).double().cpu().numpy()


def luma_of(images: torch.Tensor | np.ndarray) -> torch.Tensor:
    """BT.601 luma (b, H, W) in [0, 1] of ``images``, as for ``image_statistics``."""
    rgb = _unit_rgb(torch.as_tensor(images))
    return torch.einsum("bchw,c->bhw", rgb, rgb.new_tensor(_BT601))


def dataset_statistics(
    dataset: Sequence, workers: int = 4, statistics: Callable = image_statistics
) -> tuple[np.ndarray, np.ndarray]:
    """``statistics`` (n, k) and MOS (n,) of a dataset, with ``workers`` threads.

    ``dataset`` gives ``{"image": (3, H, W) in [0, 1], "mos": float, ...}`` by index, from several
    threads at once; images may differ in size. Raises LabError for an empty dataset.
    """
    rows = each_photograph(
        dataset, lambda item: (statistics(item["image"])[0], float(item["mos"])), workers
    )
    features, mos = zip(*rows, strict=True)
    return np.stack(features), np.array(mos)


def each_photograph(
    dataset: Sequence,
    compute: Callable[[dict], object],
    workers: int = 4,
    positions: Sequence[int] | None = None,
) -> list:
    """``compute`` of the items of a dataset, or of those at ``positions``, in their order.

    Items as for `dataset_statistics`. Raises LabError for an empty dataset.
    """
    if not len(dataset):
        raise LabError("a dataset of the baseline is empty; give at least one image in each.")
    positions = range(len(dataset)) if positions is None else positions
    # Images in parallel, one core each: twice as fast on two cores as the reverse.
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(lambda i: compute(dataset[int(i)]), positions))
    finally:
        torch.set_num_threads(before)


def _unit_rgb(images: torch.Tensor) -> torch.Tensor:
    images = images[None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < 3:
        raise LabError(
            f"images have shape {tuple(images.shape)}; give (b, 3, H, W) or (3, H, W), "
            "with H and W of at least 3."
        )
    if images.dtype == torch.uint8:
        return images.float() / 255
    images = images.float()
    # Negated, so that NaN is refused too.
    if not ((images >= -1e-3) & (images <= 1.001)).all():
        low, high = images.min().item(), images.max().item()
        raise LabError(f"images lie in [{low:g}, {high:g}]; give floats in [0, 1], or uint8.")
    return images


def _std(flat: torch.Tensor) -> torch.Tensor:
    return flat.std(dim=1, correction=0)


def _filtered(luma: torch.Tensor, mask: tuple) -> torch.Tensor:
    return conv2d(luma[:, None], luma.new_tensor(mask)[None, None]).flatten(1)


def _colourfulness(red_green: torch.Tensor, yellow_blue: torch.Tensor) -> torch.Tensor:
    spread = torch.hypot(_std(red_green), _std(yellow_blue))
    return 255 * (spread + 0.3 * torch.hypot(red_green.mean(1), yellow_blue.mean(1)))


def _levels(flat: torch.Tensor) -> torch.Tensor:
    # Luma of 8-bit pixels is a multiple of 0.001 level, so one pixel in a thousand lies halfway
    # between two. All are rounded up; else the last bit, which varies with the batch, would decide.
    return (flat * 255 + 5e-4).round().long().clamp(0, 255)


def _entropy(levels: torch.Tensor) -> torch.Tensor:
    rows = 256 * torch.arange(len(levels), device=levels.device)[:, None]
    counts = torch.bincount((levels + rows).flatten(), minlength=256 * len(levels))
    return torch.special.entr(counts.reshape(-1, 256) / levels.shape[1]).sum(1) / np.log(2)


def cached_statistics(dataset: QualityDataset) -> np.ndarray:
    """``STATISTICS`` (n, 10) of a dataset's images, cached."""
    ids = list(dataset.table["hash"])

    def compute(positions: list[int]) -> dict[str, torch.Tensor]:
        rows = each_photograph(
            dataset, lambda item: image_statistics(item["image"])[0], positions=positions
        )
        return {"statistics": torch.from_numpy(np.stack(rows))}

    cache = RowCache(
        "statistics", {"names": STATISTICS, "image_size": dataset.image_size, "rounding": "half up"}
    )
    rows = cache.rows(ids, compute, 64, lambda batches: progress_bar(batches, "image statistics"))
    return rows["statistics"].numpy()
