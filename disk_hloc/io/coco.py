"""COCO-format segmentations: annotations, or what detectors write as results.

Read are a COCO data set (``images``, ``annotations``, ``categories``), the list of results that
Detectron2, mmdetection and ultralytics write, and the file that SAM writes for an image (``image``,
``annotations``). Polygons and run-length codes go through pycocotools.
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
# (image name, size) -> (H, W) bool, True on the object, for each object; None if not in the file.
Objects = Callable[[str, Size], "list[NDArray[np.bool_]] | None"]


def read_coco(
    path: Path, classes: Iterable[str | int] | None = None, min_score: float = 0.0
) -> Objects:
    """Read a COCO file.

    Args:
        path: the json file.
        classes: names or ids of the objects wanted; None takes all.
        min_score: objects with a lower ``score`` are passed over; those without one are taken.

    Returns:
        A function from an image's name and size to its objects, each (H, W) at the size that the
        file states for it, else at the photo's; None for an image that is not in the file.

    Raises:
        DiskHlocError: the file cannot be read or is not of this format, or a class is unknown;
            from the function, for an object without segmentation or with a broken one.
    """
    try:
        content = json.loads(read_text(path, "the COCO file"))
    # Brackets in brackets without end exhaust the stack.
    except (ValueError, RecursionError) as error:
        raise DiskHlocError(f"cannot read the COCO file {path}: {error}") from error
    try:
        images, annotations, categories = _parts(content)
        wanted = None if classes is None else _category_ids(classes, categories, path)
        by_image: dict[Any, list[Any]] = defaultdict(list)
        named: dict[str, tuple[Any, Size | None]] = {}
        for annotation in annotations:
            # An image with objects of other classes only is still one that was looked at.
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
        # SAM's file of one image: its annotations do not say which.
        images = [{"id": 0, **images[0]}]
        annotations = [{**item, "image_id": images[0]["id"]} for item in annotations]
    return images, annotations, content.get("categories", [])


def _category_ids(classes: Iterable[str | int], categories: list[Any], path: Path) -> set[int]:
    names: dict[str, int] = {category["name"]: category["id"] for category in categories}
    if not names:
        # Results have no names; detectors write the ids of COCO itself.
        text = resources.files("disk_hloc.configs").joinpath("coco_classes.yaml").read_text("utf-8")
        names = {name: number for number, name in yaml.safe_load(text).items()}
    ids = set()
    for wanted in classes:
        if str(wanted) in names:
            ids.add(names[str(wanted)])
        elif str(wanted).isdigit() and int(wanted) in names.values():
            ids.add(int(wanted))
        else:
            raise DiskHlocError(f"{path} knows no class {wanted!r}; known: {', '.join(names)}")
    return ids


def _key(annotation: Mapping[str, Any]) -> Any:
    return annotation["image_id"] if "image_id" in annotation else annotation["file_name"]


def _stated(images: list[Any]) -> dict[str, tuple[Any, Size | None]]:
    """Name -> key of the image's annotations and the size that the file states."""
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
    """By the whole name, its last part, without its suffix, or as the number it is."""
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
            f"{path} has an object without segmentation (image {_key(annotation)}): boxes alone "
            "are no masks"
        )
    width, height = size
    try:
        if isinstance(segmentation, Mapping):
            if isinstance(segmentation["counts"], list):
                segmentation = codec.frPyObjects(segmentation, *segmentation["size"])
            decoded = codec.decode(segmentation)
        else:
            decoded = codec.decode(codec.merge(codec.frPyObjects(segmentation, height, width)))
    except Exception as error:  # the C code raises whatever it meets
        raise DiskHlocError(
            f"{path} has a broken segmentation (image {_key(annotation)}): {error!r}"
        ) from error
    mask: NDArray[np.bool_] = np.asarray(decoded, dtype=bool)
    return mask
