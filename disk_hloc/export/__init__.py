"""Models in the forms that other programs read, with what these need beside them.

Each target is a module with a function ``write`` of a :class:`Source` and an empty folder.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from disk_hloc.choices import EXPORT_TARGETS
from disk_hloc.errors import DiskHlocError
from disk_hloc.io import colmap
from disk_hloc.io.gps import read_frame
from disk_hloc.io.masks import Masks
from disk_hloc.io.model_folders import find_model
from disk_hloc.io.output_folder import mark
from disk_hloc.io.outputs import note_files, require_noted, require_output_folder
from disk_hloc.log import logger

from .source import Source


def main(
    source: Path,
    target: str,
    output: Path,
    *,
    images: Path | None = None,
    masks: Mapping[str, Any] | None = None,
) -> Path:
    """Export a model.

    Args:
        source: the output folder of ``disk-hloc reconstruct``, whose model in metres is taken if
            there is one; a map; or the folder of a COLMAP model.
        target: one of :data:`disk_hloc.choices.EXPORT_TARGETS`.
        output: the folder to write; what an earlier export wrote there is replaced.
        images: the photos, for targets with pictures.
        masks: of the photos (:data:`disk_hloc.io.masks.DEFAULT_CONF`), for targets with masks.

    Returns:
        ``output``.

    Raises:
        DiskHlocError: there is no model, the target needs photos or GPS and has none, its format
            does not know a camera of the model, or ``output`` has files of others.
    """
    if target not in EXPORT_TARGETS:
        raise DiskHlocError(f"no export is called {target!r}; known: {', '.join(EXPORT_TARGETS)}")
    require_output_folder(output, {"model": source, "photos": images})
    model_dir = find_model(source)
    sources = None if masks is None else Masks(masks)
    model = colmap.read_model(model_dir)
    frame = read_frame(model_dir / colmap.GEOREFERENCE)
    given = Source(model, model_dir, images, sources, frame)
    if output.exists():
        require_noted(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    if partial.exists():  # of a run that was killed
        shutil.rmtree(partial)
    mark(partial)
    try:
        importlib.import_module(f"{__name__}.{target.replace('-', '_')}").write(given, partial)
        note_files(partial)
        if output.exists():
            shutil.rmtree(output)
        partial.rename(output)
    finally:
        if partial.exists():
            shutil.rmtree(partial)
    if sources is not None:
        sources.log_missing(model.num_reg_images())
    logger.info("%d photos as %s in %s", model.num_reg_images(), target, output)
    return output
