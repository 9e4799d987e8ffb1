"""HDF5 files that survive any end of their writing."""

from .store import (
    CONF_ATTRIBUTE,
    Store,
    conf_text,
    join,
    journal_path,
    put,
    reading,
    replacing,
    require_space,
    writing,
)

__all__ = [
    "CONF_ATTRIBUTE",
    "Store",
    "conf_text",
    "join",
    "journal_path",
    "put",
    "reading",
    "replacing",
    "require_space",
    "writing",
]
