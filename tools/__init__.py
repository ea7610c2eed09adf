"""Generators of documents, and checks: for those who work on the lab."""
