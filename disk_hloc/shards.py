"""Former name of :mod:`disk_hloc.parallel.shards`, which scripts may go on importing."""

from disk_hloc.parallel.shards import extract, match

__all__ = ["extract", "match"]
