"""HDF5 files that stay whole even if the process that writes them is killed."""

from .fingerprints import Fingerprint
from .plan import Plan, plan
from .store import (
    CONF_ATTRIBUTE,
    FORMAT,
    FORMAT_KEY,
    Store,
    conf_text,
    join,
    journal_path,
    put,
    reading,
    replacing,
    require_conf,
    require_space,
    writing,
)

__all__ = [
    "CONF_ATTRIBUTE",
    "FORMAT",
    "FORMAT_KEY",
    "Fingerprint",
    "Plan",
    "Store",
    "conf_text",
    "join",
    "journal_path",
    "plan",
    "put",
    "reading",
    "replacing",
    "require_conf",
    "require_space",
    "writing",
]
