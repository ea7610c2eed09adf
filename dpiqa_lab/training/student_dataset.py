"""A student's train images: whole or cropped, mirrored or not, by the seed."""

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from ..datasets.image_set import ImageSet
from ..datasets.pixels import Pixels


class StudentDataset(Dataset):
    """Items (pixels (3, s, s) uint8, mos float32 or NaN, position, place).

    ``place`` (4,) float32 is what is seen of the photograph as the student's input has it: left,
    top and side as shares of that input, and 1 where it is mirrored, else 0. ``epoch`` is to be set
    before an epoch: seed, epoch and position decide the place, not the number of workers.

    Args:
        crop: side in pixels of a random part of the input, not scaled, so that a whole photograph
            looks alike in training and in use; ``None`` is the whole input.
    """

    def __init__(self, photographs: ImageSet, flip: bool, crop: int | None, seed: int) -> None:
        self.table = photographs.table
        self.whole = Pixels(photographs)
        self.flip = flip
        self.crop = crop
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, int, torch.Tensor]:
        pixels, mos, _ = self.whole[i]
        rng = np.random.default_rng([self.seed, self.epoch, i])
        full = self.whole.size
        assert full is not None
        side = self.crop or full
        left, top = (int(rng.integers(full - side + 1)) for _ in range(2))
        mirrored = self.flip and bool(rng.integers(2))
        pixels = pixels[:, top : top + side, left : left + side]
        pixels = pixels.flip(2) if mirrored else pixels
        place = torch.tensor([left / full, top / full, side / full, float(mirrored)])
        return pixels.contiguous(), mos, i, place


def crop_maps(maps: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Crops of maps (b, c, h, w) at the places (b, 4) of ``StudentDataset``, resized to h x w.

    Cut out, mirrored and bilinearly enlarged. A teacher's map of the part alone would differ
    somewhat: its network would see no surroundings.
    """
    left, top, side, mirrored = places.unbind(1)
    zero = torch.zeros_like(side)
    # From -1 to 1 over the part, to -1 to 1 over the whole.
    across = torch.stack([side * (1 - 2 * mirrored), zero, 2 * left + side - 1], dim=1)
    down = torch.stack([zero, side, 2 * top + side - 1], dim=1)
    grid = F.affine_grid(torch.stack([across, down], dim=1), list(maps.shape), align_corners=False)
    return F.grid_sample(maps, grid, padding_mode="border", align_corners=False)
