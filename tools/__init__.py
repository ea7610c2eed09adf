"""Generators of documentation and checks of the sources; not part of the package."""
