"""Photographs as small integers for a loader: a quarter of the bytes of float32 on their way."""

import torch
from torch.utils.data import Dataset

from .dataset import QualityDataset
from .images import read_image


class Pixels(Dataset):
    """Items (pixels (3, s, s) uint8, mos float32, position) of a dataset with an ``image_size``."""

    def __init__(self, dataset: QualityDataset):
        self.paths = list(dataset.table["path"])
        self.mos = torch.tensor(dataset.table["mos"].to_numpy(), dtype=torch.float32)
        self.size = dataset.image_size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        pixels = torch.from_numpy(read_image(self.paths[i], self.size).copy())
        return pixels.permute(2, 0, 1).contiguous(), self.mos[i], i
