"""Questions to the method: ablations, benchmark, the small prior's pretraining."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
