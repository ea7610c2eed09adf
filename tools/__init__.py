"""Generators of documents and checks of the repository; not part of the package."""
