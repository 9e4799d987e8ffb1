"""Another name of :mod:`disk_hloc.parallel`, which scripts may keep importing."""

from disk_hloc.parallel import extract, match

__all__ = ["extract", "match"]
