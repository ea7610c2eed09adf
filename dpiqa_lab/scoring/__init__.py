"""From one image to millions: scores to CSV, Parquet, ONNX."""

from .._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
