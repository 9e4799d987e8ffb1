"""From queries to the database images to localize them with."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.conf_files import conf_stem
from disk_hloc.plugin import find_conf
from disk_hloc.stages import describe, extract, retrieve

# Retrieval by our own local features.
VLAD = "disk-vlad"


def retrieve_pairs(
    conf: Mapping[str, Any],
    images: Path,
    features: Path,
    reference: Path,
    outputs: Path,
    *,
    overwrite: bool = False,
    new_features: bool = False,
    device: str = "auto",
) -> tuple[str, Path]:
    """Write the pairs of queries and retrieved images.

    Args:
        conf: ``retrieval`` (``disk-vlad``, a global conf of hloc's, or a pairs file), ``num_loc``
            (images of each query) and ``query_prefix``, which the names of queries begin with.
        images: the photos.
        features: their local features.
        reference: the COLMAP model of the database images.
        outputs: gets the global descriptors and ``pairs-query-*.txt``.
        overwrite: describe the photos from scratch.
        new_features: describe them from scratch where the descriptors are made of ``features``.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Returns:
        The retrieval's name as it stands in the names of files, and the pairs file.

    Raises:
        DiskHlocError: as :func:`find_retrieval` and the stages.
    """
    retrieval, count = conf["retrieval"], conf["num_loc"]
    found = find_retrieval(retrieval)
    if found is None:
        source = Path(retrieval)
        copied = outputs / f"pairs-query-{source.stem}.txt"
        if source.resolve() != copied.resolve():
            shutil.copyfile(source, copied)
        return source.stem, copied
    if retrieval == VLAD:
        descriptors = outputs / f"{found['output']}_{features.stem}.h5"
        describe.main(found, features, descriptors, overwrite=overwrite or new_features)
    else:
        descriptors = outputs / f"{found['output']}.h5"
        extract.main(found, images, descriptors, overwrite=overwrite, device=device)
    listed = outputs / f"pairs-query-{conf_stem(retrieval)}{count}.txt"
    prefix = conf["query_prefix"]
    retrieve.main(descriptors, listed, count, query_prefix=prefix, db_model=reference)
    return conf_stem(retrieval), listed


def find_retrieval(retrieval: str) -> dict[str, Any] | None:
    """Return the conf of a global descriptor; None for a pairs file.

    Raises:
        DiskHlocError: there is no such conf or file.
    """
    if Path(retrieval).is_file():
        return None
    if retrieval.endswith(".txt"):
        raise DiskHlocError(f"there is no pairs file {retrieval}")
    return find_conf("global" if retrieval == VLAD else "extractors", retrieval)
