"""Images made up for tests."""

import numpy as np
import torch


class NoiseImages:
    """Noise of known strength, in photographs of many sizes; the less of it, the better."""

    def __init__(self, n: int, seed: int):
        rng = np.random.default_rng(seed)
        self.strength = rng.uniform(0.01, 0.1, n)
        self.sizes = rng.integers(24, 64, (n, 2))

    def __len__(self) -> int:
        return len(self.strength)

    def __getitem__(self, index: int) -> dict:
        noise = np.random.default_rng(index).normal(size=(3, *self.sizes[index]))
        image = torch.tensor(0.5 + self.strength[index] * noise, dtype=torch.float32)
        return {
            "image": image.clamp(0, 1),
            "mos": 5 - 20 * self.strength[index],
            "name": f"{index}.png",
        }
