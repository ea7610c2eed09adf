"""What every room builds on: runs, identity, cache, device, configuration, files."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
