"""Images and their scores: readers, checks, splits, distortions, statistics."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
