"""The plug-in: where hloc is, our models in it, and confs by name, ours or hloc's.

hloc is looked for as ``hloc`` (from git) and then as ``imcui.hloc`` (the copy in the PyPI package
imcui); the environment variable ``DISK_HLOC_PROVIDER`` names the one to use, or another package.
"""

from .mixed_confs import Part, find_parts, split_names
from .named_confs import find_conf
from .provider import find_provider, import_provider
from .registration import hloc_confs, hloc_module, register

__all__ = [
    "Part",
    "find_conf",
    "find_parts",
    "find_provider",
    "hloc_confs",
    "hloc_module",
    "import_provider",
    "register",
    "split_names",
]
