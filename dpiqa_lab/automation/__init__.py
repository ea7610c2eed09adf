"""Running notebooks, sweeps over parameters, and estimates of a training's resources."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
