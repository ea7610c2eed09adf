"""Images as uint8 for a loader: a quarter of the bytes of float32."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from .dataset import QualityDataset
from .image_set import ImageSet
from .images import read_image


class Pixels(Dataset):
    """Items (pixels (3, s, s) uint8, mos float32, position) of a dataset with an ``image_size``."""

    def __init__(self, dataset: QualityDataset | ImageSet) -> None:
        self.paths = list(dataset.table["path"])
        self.mos = torch.tensor(dataset.table["mos"].to_numpy(), dtype=torch.float32)
        self.size = dataset.image_size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        pixels = torch.from_numpy(read_image(self.paths[i], self.size).copy())
        return pixels.permute(2, 0, 1).contiguous(), self.mos[i], i


class ItemPixels(Dataset):
    """``Pixels`` of any sequence of ``{"image": (3, H, W) in [0,1], "mos": float}``, resized."""

    def __init__(self, items: Sequence[dict], size: int) -> None:
        self.items = items
        self.size = size

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        item = self.items[i]
        image, size = item["image"][None], (self.size, self.size)
        if image.shape[2:] != size:
            image = F.interpolate(image, size, mode="bilinear", antialias=True, align_corners=False)
        pixels = image[0].mul(255).round().clamp(0, 255).to(torch.uint8)
        return pixels, torch.tensor(item["mos"], dtype=torch.float32), i


def pixels_of(dataset: Sequence[dict], size: int) -> Pixels | ItemPixels:
    """Images at ``size``, read from their files if ``dataset`` has them."""
    if isinstance(dataset, QualityDataset):
        return Pixels(QualityDataset(dataset.manifest, dataset.split, size))
    return ItemPixels(dataset, size)
