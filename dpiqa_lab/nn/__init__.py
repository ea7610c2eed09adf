"""Layers computed faster on CPUs, same numbers but for rounding."""
