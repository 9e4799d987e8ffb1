"""Stages by many processes or machines at once, with Dask."""

from . import clusters
from .shards import extract, match, run

__all__ = ["clusters", "extract", "match", "run"]
