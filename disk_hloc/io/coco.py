"""Read segmentations in COCO's format: annotations, or the results of detectors.

Three kinds of files are supported: a COCO data set (``images``, ``annotations``, ``categories``),
the list of results that Detectron2, mmdetection and ultralytics write, and the file that SAM writes
for one image (``image``, ``annotations``). pycocotools decodes polygons and run-length codes.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from disk_hloc.errors import DiskHlocError

from .text import read_text

Size = tuple[int, int]
# (image name, size) -> one (H, W) bool mask per object, True on the object; None for an image that
# is not in the file.
Objects = Callable[[str, Size], "list[NDArray[np.bool_]] | None"]


def read_coco(
    path: Path, classes: Iterable[str | int] | None = None, min_score: float = 0.0
) -> Objects:
    """Read a COCO file.

    Args:
        path: the json file.
        classes: names or ids of the objects to read; None reads all.
        min_score: objects with a lower ``score`` are skipped; objects without a score are kept.

    Returns:
        A function from an image's name and its (width, height) in pixels to the masks of its
        objects, each (H, W) bool at the size that the file states for the image, otherwise at the
        photo's size; None for an image that is not in the file. The function raises a
        DiskHlocError for an object whose segmentation is missing or broken.

    Raises:
        DiskHlocError: the file cannot be read or is not in COCO's format, or a class is unknown.
    """
    try:
        content = json.loads(read_text(path, "the COCO file"))
    # Deeply nested brackets exhaust the stack.
    except (ValueError, RecursionError) as error:
        raise DiskHlocError(f"cannot read the COCO file {path}: {error}") from error
    try:
        images, annotations, categories = _parts(content)
        wanted = None if classes is None else _category_ids(classes, categories, path)
        by_image: dict[Any, list[Any]] = defaultdict(list)
        named: dict[str, tuple[Any, Size | None]] = {}
        for annotation in annotations:
            # An image that only has objects of other classes is in the file all the same.
            found = by_image[_key(annotation)]
            named[str(annotation.get("file_name", _key(annotation)))] = _key(annotation), None
            if wanted is not None and annotation.get("category_id") not in wanted:
                continue
            if annotation.get("score", min_score) >= min_score:
                found.append(annotation)
        # Results name the image by a number or by its stem (ultralytics).
        index = _stated(images) if images else named
    except (AttributeError, KeyError, TypeError) as error:
        raise DiskHlocError(f"{path} is not in COCO's format ({error!r})") from error

    def objects(name: str, size: Size) -> list[NDArray[np.bool_]] | None:
        found = _find(index, name)
        if found is None:
            return None
        key, stated = found
        return [_rasterize(item, stated or size, path) for item in by_image.get(key, [])]

    return objects


def _parts(content: Any) -> tuple[list[Any], list[Any], list[Any]]:
    if isinstance(content, Sequence):
        return [], list(content), []
    images = content["images"] if "images" in content else [content["image"]]
    annotations = content["annotations"]
    if "images" not in content:
        # SAM's file of one image, whose annotations have no image_id.
        images = [{"id": 0, **images[0]}]
        annotations = [{**item, "image_id": images[0]["id"]} for item in annotations]
    return images, annotations, content.get("categories", [])


def _category_ids(classes: Iterable[str | int], categories: list[Any], path: Path) -> set[int]:
    names: dict[str, int] = {category["name"]: category["id"] for category in categories}
    if not names:
        # Results have no class names; detectors write COCO's own ids.
        text = resources.files("disk_hloc.configs").joinpath("coco_classes.yaml").read_text("utf-8")
        names = {name: number for number, name in yaml.safe_load(text).items()}
    ids = set()
    for wanted in classes:
        if str(wanted) in names:
            ids.add(names[str(wanted)])
        elif str(wanted).isdigit() and int(wanted) in names.values():
            ids.add(int(wanted))
        else:
            raise DiskHlocError(f"{path} has no class {wanted!r}; it has: {', '.join(names)}")
    return ids


def _key(annotation: Mapping[str, Any]) -> Any:
    return annotation["image_id"] if "image_id" in annotation else annotation["file_name"]


def _stated(images: list[Any]) -> dict[str, tuple[Any, Size | None]]:
    """Map each image's name to the key of its annotations and the size that the file states."""
    return {
        str(image["file_name"]): (
            image["id"],
            (image["width"], image["height"]) if "width" in image else None,
        )
        for image in images
    }


def _find(
    index: Mapping[str, tuple[Any, Size | None]], name: str
) -> tuple[Any, Size | None] | None:
    """Look up an image by its whole name, its file name, without suffix, or as a number."""
    path = PurePosixPath(name)
    names = [name, path.name, str(path.with_suffix("")), path.stem]
    if path.stem.isdigit():
        names.append(str(int(path.stem)))
    for candidate in names:
        if candidate in index:
            return index[candidate]
    same_file = [key for key in index if PurePosixPath(key).name == path.name]
    return index[same_file[0]] if len(same_file) == 1 else None


def _rasterize(annotation: Mapping[str, Any], size: Size, path: Path) -> NDArray[np.bool_]:
    try:
        from pycocotools import mask as codec
    except ImportError as error:
        raise DiskHlocError('COCO files need pycocotools: pip install "disk_hloc[coco]"') from error
    segmentation = annotation.get("segmentation")
    if not segmentation:
        raise DiskHlocError(
            f"{path} has an object without a segmentation (image {_key(annotation)}): boxes "
            "cannot be used as masks"
        )
    width, height = size
    try:
        if isinstance(segmentation, Mapping):
            if isinstance(segmentation["counts"], list):
                segmentation = codec.frPyObjects(segmentation, *segmentation["size"])
            decoded = codec.decode(segmentation)
        else:
            decoded = codec.decode(codec.merge(codec.frPyObjects(segmentation, height, width)))
    except Exception as error:  # pycocotools raises errors of many types
        raise DiskHlocError(
            f"{path} has a broken segmentation (image {_key(annotation)}): {error!r}"
        ) from error
    mask: NDArray[np.bool_] = np.asarray(decoded, dtype=bool)
    return mask
