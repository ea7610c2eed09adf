"""Joint training of the tiny prior's U-Net and text encoder."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..core.device import Compute
from ..datasets.distortions import DISTORTIONS, strength_table
from ..diffusion.attention import share_prompts
from ..diffusion.distortion_prompts import distortion_prompt
from ..diffusion.taps import FeatureTaps
from ..models.trainable import Trainable
from ..training.loop import Task
from .prior_config import PriorConfig

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from transformers import CLIPTokenizer

# Fractions of steps conditioned on caption tokens, the pooled caption vector, and, as the teacher,
# one sequence of pooled vectors shared by the batch, which includes every view's caption.
_WAYS = {"tokens": 0.2, "pooled": 0.1, "shared": 0.7}
# Captions of other views in a shared sequence.
_OTHERS = 32
# Half of the timesteps are below this one, as quality features are read at low noise.
_EARLY = 200


class PriorUNet(Trainable):
    """U-Net and text encoder as one module, with linear heads for distortions.

    The heads take the mean of the middle block's and of every up block's output; they are not
    exported.
    """

    def __init__(
        self,
        unet: Any,  # noqa: ANN401 - diffusers' classes lack types
        text_encoder: nn.Module,
    ) -> None:
        super().__init__()
        share_prompts(unet)
        self.unet = unet
        self.text_encoder = text_encoder
        widths = unet.config.block_out_channels[::-1]
        self.taps = ["mid_block", *(f"up_blocks.{i}" for i in range(len(widths)))]
        self.damage_heads = nn.ModuleList(
            nn.Linear(width, len(DISTORTIONS)) for width in (widths[0], *widths)
        )

    def forward(
        self, latents: torch.Tensor, timesteps: torch.Tensor, ids: torch.Tensor, way: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise (b, 4, h, w) in noisy latents, and distortion strengths (b, taps, kinds).

        ``ids`` are tokens (b or more, length).
        """
        encoded = self.text_encoder(ids)
        prompts = {
            "tokens": lambda: encoded.last_hidden_state,
            "pooled": lambda: encoded.pooler_output[:, None],
            "shared": lambda: encoded.pooler_output[None],
        }[way]()
        with FeatureTaps(self.unet, self.taps, copy=False) as taps:
            noise = self.unet(latents, timesteps, encoder_hidden_states=prompts).sample
        named = [
            head(taps[name].float().mean((2, 3)))
            for head, name in zip(self.damage_heads, self.taps, strict=True)
        ]
        return noise.float(), torch.stack(named, 1).float()


class UNetTask(Task):
    """Epsilon prediction on the latents of the views, with distortion prediction as second task.

    Denoising alone learns distortions too slowly for a short training; the second task
    (``damage_weight``) speeds it up, like representation alignment (Yu et al., 2024). It applies
    only to views at low noise whose own caption was not the sole condition. The goal is
    ``explained``: the fraction of the noise's variance predicted on held-out views, at fixed noise
    and timesteps (half of them below 200, as in training); ``named`` is that of the distortion
    strengths, over all taps.
    """

    goal = "explained"

    def __init__(
        self,
        network: PriorUNet,
        tokenizer: "CLIPTokenizer",
        scheduler: "DDPMScheduler",
        latents: torch.Tensor,
        table: pd.DataFrame,
        config: PriorConfig,
        compute: Compute,
    ) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.scheduler: Any = scheduler  # diffusers' types are narrower than what it accepts
        self.latents = latents
        self.table = table
        self.config = config
        self.compute = compute
        self.strengths = torch.from_numpy(strength_table(table["damage"]))
        self.rows = {part: np.flatnonzero(table["split"] == part) for part in ("train", "val")}

    def batches(self, epoch: int, start: int) -> Iterator[list]:  # noqa: ARG002 - interface
        """See ``loop.Task``; a step depends only on the seed and its number."""
        for step in range(start, self.config.unet_steps):
            rng = np.random.default_rng([self.config.seed, 2, step])
            rows = rng.choice(self.rows["train"], self.config.unet_batch)
            way = rng.choice(list(_WAYS), p=list(_WAYS.values()))
            yield [[rows, str(way), rng]]

    def loss(self, model: nn.Module, batch: Sequence) -> tuple[torch.Tensor, int]:
        """See ``loop.Task``."""
        rows, way, rng = batch
        noise, damage = self._errors(model, rows, way, rng, self.config.drop_caption)
        # Without counting views the heads still get (zero) gradients.
        named = damage.sum() / max(1, len(damage))
        return noise.mean() + self.config.damage_weight * named, len(rows)

    def names(self, batch: Sequence) -> list[str]:
        """See ``loop.Task``."""
        return list(self.table["photograph"].iloc[batch[0]])

    def validate(self, model: nn.Module) -> dict[str, float]:
        """See ``loop.Task``."""
        rng, rows = np.random.default_rng([self.config.seed, 3]), self.rows["val"]
        batches = np.array_split(rows, max(1, len(rows) // 32))
        errors = [self._errors(model, rows, "shared", rng, drop=0.0) for rows in batches]
        noise, damage = (torch.cat(part).mean().item() for part in zip(*errors, strict=True))
        variance = self.strengths.var(0).sum().item()
        return {"explained": 1 - noise, "named": 1 - damage / variance}

    def _errors(
        self, model: nn.Module, rows: np.ndarray, way: str, rng: np.random.Generator, drop: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Squared errors of the predicted noise, (b,), and of the distortion strengths.

        The latter are sums over kinds for the views that count: (b or fewer,).
        """
        clean = self.latents[rows].to(self.compute.device)
        total = self.scheduler.config.num_train_timesteps
        ends = np.where(rng.random(len(rows)) < 0.5, _EARLY, total)
        timesteps = torch.from_numpy((rng.random(len(rows)) * ends).astype(np.int64))
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32)).to(clean)
        noisy = self.scheduler.add_noise(clean, noise, timesteps)
        ids, captioned = self._tokens(rows, way, rng, drop)
        counts = torch.from_numpy(~captioned) & (timesteps < _EARLY)
        predicted, named = model(noisy, timesteps.to(clean.device), ids.to(clean.device), way)
        wrong = (named - self.strengths[rows].to(named)[:, None]).square().sum(2).mean(1)
        return (predicted - noise).square().mean((1, 2, 3)), wrong[counts.to(wrong.device)]

    def _tokens(
        self, rows: np.ndarray, way: str, rng: np.random.Generator, drop: float
    ) -> tuple[torch.Tensor, np.ndarray]:
        """Caption tokens, and which views are conditioned on their own caption alone."""
        if way == "shared":
            captioned = np.zeros(len(rows), bool)
            without = rng.random() < drop
            others = rng.choice(self.rows["train"], _OTHERS)
            rows = rows[:1] if without else np.concatenate([rows, others])
            dropped = np.full(len(rows), without)
        else:
            dropped = rng.random(len(rows)) < drop
            captioned = ~dropped
        known = zip(
            self.table["damage"].iloc[rows], self.table["luminance"].iloc[rows], strict=True
        )
        texts = [
            "" if drop else distortion_prompt(damage, luminance, rng)
            for drop, (damage, luminance) in zip(dropped, known, strict=True)
        ]
        ids = self.tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=self.tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids
        return ids, captioned
