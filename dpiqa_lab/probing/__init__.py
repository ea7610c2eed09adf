"""Features of a frozen backbone: extraction, probes, correlations, 2-D maps."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
