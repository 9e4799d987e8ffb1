"""Our models and confs in hloc.

hloc loads the model ``disk`` by importing ``hloc.extractors.disk`` and taking the one class in it
that derives from its BaseModel. :func:`register` adds an importer that answers such imports for
the models of :mod:`disk_hloc.models`; no function of hloc is patched. A model that hloc has itself
stays hloc's, except for ``disk``.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from disk_hloc import confs, models
from disk_hloc.errors import DiskHlocError
from disk_hloc.log import logger

from .provider import find_provider, import_provider

# Kind of conf -> the module of hloc that runs it, and its package of models.
_RUNNERS = {
    "extractors": "extract_features",
    "matchers": "match_features",
    "dense": "match_dense",
}
_PACKAGES = {"extractors": "extractors", "matchers": "matchers", "dense": "matchers"}
_REPLACED = "disk"


def register() -> ModuleType:
    """Add our models and confs to hloc; see :func:`disk_hloc.register`."""
    provider = import_provider("disk_hloc.register()")
    _register(provider.__name__)
    return provider


def hloc_module(name: str, needed_for: str = "this") -> ModuleType:
    """Import a module of hloc, with our models registered: ``hloc_module("extract_features")``.

    Args:
        name: without hloc's own.
        needed_for: what needs it, for the error.

    Raises:
        DiskHlocError: hloc is not installed, or the module cannot be imported.
    """
    provider = import_provider(needed_for)
    _register(provider.__name__)
    try:
        return importlib.import_module(f"{provider.__name__}.{name}")
    except ImportError as error:
        raise DiskHlocError(f"{provider.__name__}.{name} cannot be imported: {error}") from error


def hloc_confs(kind: str) -> dict[str, Any]:
    """Return hloc's confs of a kind, with ours; {} without hloc, and of a kind unknown to hloc.

    Args:
        kind: ``extractors``, ``matchers`` or ``dense``.

    Raises:
        DiskHlocError: hloc cannot be imported.
    """
    if kind not in _RUNNERS or find_provider() is None:
        return {}
    found: dict[str, Any] = deepcopy(hloc_module(_RUNNERS[kind]).confs)
    return found


@cache
def _register(provider: str) -> None:
    modules = {}
    for kind, folder in _PACKAGES.items():
        package = importlib.import_module(f"{provider}.{folder}")
        theirs = {module.name for module in pkgutil.iter_modules(package.__path__)}
        for name in models.names(kind):
            if name in theirs and name != _REPLACED:
                continue
            modules[f"{package.__name__}.{name}"] = kind, name
            # hloc's own module of this name may have been imported before.
            sys.modules.pop(f"{package.__name__}.{name}", None)
            if hasattr(package, name):
                delattr(package, name)
    sys.meta_path.insert(0, _Importer(provider, modules))
    for kind, runner in _RUNNERS.items():
        try:
            theirs_by_name = importlib.import_module(f"{provider}.{runner}").confs
        except ModuleNotFoundError as error:
            # hloc.match_dense needs torchvision; who needs the module is told by hloc_module.
            logger.info("No models of %s.%s: %s", provider, runner, error)
            continue
        for name, conf in confs.packaged(kind).items():
            # hloc's own extractor conf `disk` stays, with our model under it.
            is_disks_matcher = kind == "matchers" and name.startswith("disk")
            if name not in theirs_by_name or is_disks_matcher:
                theirs_by_name[name] = conf


class _Importer(MetaPathFinder, Loader):
    """Makes the modules of hloc that hold our models, when they are imported.

    Args:
        provider: hloc's package.
        modules: the module's full name -> kind and name of the model.
    """

    def __init__(self, provider: str, modules: Mapping[str, tuple[str, str]]) -> None:
        self.provider = provider
        self.modules = modules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.modules:
            return None
        kind, name = self.modules[fullname]
        origin = Path(models.__file__).parent / kind / f"{name}.py"
        return importlib.util.spec_from_file_location(fullname, origin, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        kind, name = self.modules[module.__name__]
        base = importlib.import_module(f"{self.provider}.utils.base_model").BaseModel
        model: Any = models.load(kind, name)  # type: ignore[call-overload]

        def _init(self: Any, conf: Mapping[str, Any]) -> None:
            self.model = model({key: conf[key] for key in model.default_conf})

        def _forward(self: Any, data: Mapping[str, Any]) -> dict[str, Any]:
            prediction = self.model(data)
            if kind == "extractors":
                # Some of hloc's matchers ask for the scores by this name.
                prediction = {**prediction, "scores": prediction["keypoint_scores"]}
            return prediction

        attributes = {
            "__module__": module.__name__,
            "__doc__": f"hloc's interface to :class:`{model.__module__}.{model.__name__}`.",
            "default_conf": model.default_conf,
            "required_inputs": model.required_data_keys,
            "_init": _init,
            "_forward": _forward,
        }
        setattr(module, model.__name__, type(model.__name__, (base,), attributes))
