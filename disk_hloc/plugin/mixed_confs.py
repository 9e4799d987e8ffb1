"""Features of several extractors in one model: ``disk+sift``, and a matcher for each of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from disk_hloc import confs, models
from disk_hloc.confs import Conf
from disk_hloc.errors import DiskHlocError
from disk_hloc.io.conf_files import conf_stem

from .named_confs import find_conf
from .registration import hloc_confs

# Joins extractors.
_AND = "+"
# Joins matchers: a plus is in the names of many, disk+lightglue.
_THEN = ","
# The matcher for descriptors of hloc's extractors: it takes any.
_ANY = "disk"


class Part(NamedTuple):
    """An extractor and the matcher of its features.

    Attributes:
        name: the extractor's conf, as it was given.
        extractor: the conf.
        matcher: the conf.
    """

    name: str
    extractor: Conf
    matcher: Conf

    @property
    def stem(self) -> str:
        """The name as it stands in the names of files."""
        return conf_stem(self.name)


def find_parts(extractor: str, matcher: str | None = None) -> list[Part]:
    """Return what ``--extractor`` and ``--matcher`` name, a part for each extractor.

    Args:
        extractor: a conf as :func:`disk_hloc.plugin.find_conf` takes it, or several joined by
            ``+``. A name that has a plus itself, of a conf or of a file, stays whole.
        matcher: the matcher of a single extractor; of several, one for each, in the same order,
            joined by commas. None is each extractor's own
            (:attr:`disk_hloc.models.base.Extractor.default_matcher`).

    Raises:
        DiskHlocError: an unknown conf, the same extractor twice, or another number of matchers.
    """
    names = split_names(extractor)
    stems = [conf_stem(name) for name in names]
    for stem in stems:
        if stems.count(stem) > 1:
            raise DiskHlocError(
                f"--extractor {extractor} has two parts called {stem}: give each extractor once, "
                "and .yaml files different names"
            )
    extractors = [find_conf("extractors", name) for name in names]
    if matcher is None:
        matchers = [default_matcher(conf) for conf in extractors]
    else:
        matchers = [name.strip() for name in matcher.split(_THEN)] if len(names) > 1 else [matcher]
    if len(matchers) != len(names):
        defaults = _THEN.join(default_matcher(conf) for conf in extractors)
        raise DiskHlocError(
            f"--matcher {matcher} is not one matcher for each of {', '.join(names)}: give "
            f"{len(names)}, joined by commas, such as {defaults}"
        )
    found = [find_conf("matchers", name) for name in matchers]
    return [Part(*part) for part in zip(names, extractors, found, strict=True)]


def default_matcher(extractor: Conf) -> str:
    """Return the name of the matcher conf that suits an extractor conf."""
    name = extractor["model"]["name"]
    if not models.has("extractors", name):
        return _ANY
    return models.load("extractors", name).default_matcher


def split_names(extractor: str) -> list[str]:
    """Return the names of the extractors that ``--extractor`` joins, each as long as it can be.

    A name that is not known stands alone, and is refused where its conf is looked up.
    """
    pieces = extractor.split(_AND)
    names = []
    while pieces:
        lengths = range(len(pieces), 0, -1)
        known = (length for length in lengths if _is_known(_AND.join(pieces[:length])))
        length = next(known, 1)
        names.append(_AND.join(pieces[:length]))
        pieces = pieces[length:]
    return names


def _is_known(name: str) -> bool:
    if name.endswith((".yaml", ".yml")):
        return Path(name).is_file()
    return name in confs.extractors() or name in hloc_confs("extractors")
