"""Stable Diffusion's parts: backbones, prompts, latents, taps."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
