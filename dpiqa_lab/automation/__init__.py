"""Notebooks run by programs: one, sweeps, estimates of what a training takes."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
