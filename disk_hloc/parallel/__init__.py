"""Stages by many processes or machines at once, with Dask."""

from .shards import extract, match, run

__all__ = ["extract", "match", "run"]
