"""COCO files: data sets, results, SAM's; polygons and run-length codes; classes and scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.coco import read_coco
from disk_hloc.io.masks import Masks
from support.errors import one_line_error

codec = pytest.importorskip("pycocotools.mask")

SIZE = (20, 12)  # width, height
BOX = [4, 3, 10, 3, 10, 8, 4, 8]  # a polygon: columns 4 to 9, rows 3 to 7


def boxed(x0: int = 4, y0: int = 3, x1: int = 10, y1: int = 8) -> np.ndarray:
    mask = np.zeros(SIZE[::-1], dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def compressed(mask: np.ndarray) -> dict[str, Any]:
    code = codec.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode()}


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    """Encode a mask as runs along its columns; the first run is of zeros."""
    flat = mask.ravel(order="F").astype(int)
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *changes, len(flat)]).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def data_set(*annotations: dict[str, Any], **image: Any) -> dict[str, Any]:
    return {
        "images": [
            {"id": 7, "file_name": "a/b.jpg", "width": SIZE[0], "height": SIZE[1], **image},
            {"id": 8, "file_name": "c.jpg", "width": SIZE[0], "height": SIZE[1]},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
        "annotations": [{"image_id": 7, "category_id": 1, **item} for item in annotations],
    }


def ignored(path: Path, name: str = "a/b.jpg", size: tuple[int, int] = SIZE, **conf: Any) -> Any:
    return ~Masks({"coco": path, **conf})(name, size)


@given(st.integers(0, 2**32), st.floats(0, 1))
@settings(max_examples=25)
def test_run_length_codes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, density: float
) -> None:
    folder = tmp_path_factory.mktemp("rle")
    mask = np.random.default_rng(seed).random(SIZE[::-1]) < density
    for number, code in enumerate((compressed(mask), uncompressed(mask))):
        path = write(folder / f"{number}.json", data_set({"segmentation": code}))
        assert np.array_equal(ignored(path), mask)


def test_polygons(tmp_path: Path) -> None:
    other = [12, 1, 15, 1, 15, 4, 12, 4]
    path = write(tmp_path / "c.json", data_set({"segmentation": [BOX, other]}))
    assert np.array_equal(ignored(path), boxed() | boxed(12, 1, 15, 4))
    path = write(tmp_path / "d.json", data_set({"segmentation": [BOX]}, {"segmentation": [other]}))
    assert np.array_equal(ignored(path), boxed() | boxed(12, 1, 15, 4))
    # Polygons are in pixels of the size that the file states.
    assert np.array_equal(
        ignored(path, size=(40, 24)),
        (boxed() | boxed(12, 1, 15, 4)).repeat(2, axis=0).repeat(2, axis=1),
    )


def test_images_that_the_file_knows(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", data_set({"segmentation": [BOX]}))
    masks = Masks({"coco": path})
    for name in ("a/b.jpg", "b.jpg", "other/b.jpg"):
        assert np.array_equal(~masks(name, SIZE), boxed())
    assert masks("c.jpg", SIZE).all()  # looked at, and nothing found
    assert masks.missing == set()
    assert masks("d.jpg", SIZE).all()
    assert masks.missing == {"d.jpg"}
    with pytest.raises(DiskHlocError) as error:
        Masks({"coco": path, "missing": "error"})("d.jpg", SIZE)
    assert one_line_error(error, "d.jpg")


def test_equal_names_in_different_folders_are_distinguished(tmp_path: Path) -> None:
    content = data_set({"segmentation": [BOX]})
    content["images"][1]["file_name"] = "c/b.jpg"
    path = write(tmp_path / "c.json", content)
    assert np.array_equal(ignored(path), boxed())
    assert not ignored(path, "c/b.jpg").any()
    assert read_coco(path)("b.jpg", SIZE) is None  # either could be meant


def test_classes_and_scores(tmp_path: Path) -> None:
    car = boxed(0, 0, 3, 3)
    path = write(
        tmp_path / "c.json",
        data_set(
            {"segmentation": [BOX], "score": 0.4},
            {"segmentation": compressed(car), "category_id": 3, "score": 0.9},
        ),
    )
    assert np.array_equal(ignored(path), boxed() | car)
    for classes in (["car"], [3], ["3"]):
        assert np.array_equal(ignored(path, ignore_classes=classes), car)
    assert np.array_equal(ignored(path, ignore_classes=["car", 1]), boxed() | car)
    assert np.array_equal(ignored(path, min_score=0.5), car)
    assert np.array_equal(ignored(path, min_score=0.4), boxed() | car)
    assert not ignored(path, ignore_classes=["person"], min_score=0.5).any()
    with pytest.raises(DiskHlocError) as error:
        Masks({"coco": path, "ignore_classes": ["tree"]})
    assert one_line_error(error, "tree", "person, car", path)


def test_objects_without_a_score_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", data_set({"segmentation": [BOX]}))
    assert np.array_equal(ignored(path, min_score=0.9), boxed())


def test_results_name_images_by_number_and_classes_as_coco_does(tmp_path: Path) -> None:
    mask = boxed()
    common = {"bbox": [0, 0, 1, 1], "score": 0.8}
    path = write(
        tmp_path / "r.json",
        [
            {"image_id": 139, "category_id": 1, "segmentation": compressed(mask), **common},
            {"image_id": 139, "category_id": 3, "segmentation": compressed(~mask), **common},
            {"image_id": 14, "category_id": 3, "segmentation": compressed(mask), **common},
        ],
    )
    for name in ("000000000139.jpg", "x/139.png"):
        assert np.array_equal(ignored(path, name, ignore_classes=["person"]), mask)
        assert ignored(path, name).all()
    assert not ignored(path, "14.jpg", ignore_classes=["person"]).any()
    assert read_coco(path, ["person"])("14.jpg", SIZE) == []
    assert read_coco(path)("15.jpg", SIZE) is None
    with pytest.raises(DiskHlocError) as error:
        Masks({"coco": path, "ignore_classes": ["tree"]})
    assert one_line_error(error, "tree", "person", "toothbrush")


def test_ultralytics_names_images_by_stem_and_by_file(tmp_path: Path) -> None:
    mask = boxed()
    item = {"category_id": 1, "score": 0.8, "segmentation": compressed(mask)}
    stems = write(tmp_path / "s.json", [{"image_id": "IMG_1", **item}])
    files = write(tmp_path / "f.json", [{"image_id": 5, "file_name": "IMG_1.jpg", **item}])
    both = write(tmp_path / "b.json", [{"image_id": "IMG_1", "file_name": "IMG_1.jpg", **item}])
    alone = write(tmp_path / "a.json", [{"file_name": "IMG_1.jpg", **item}])
    for path in (stems, files, both, alone):
        for name in ("IMG_1.jpg", "sub/IMG_1.jpg"):
            assert np.array_equal(ignored(path, name), mask)
        assert read_coco(path)("IMG_10.jpg", SIZE) is None


def test_the_file_that_sam_writes(tmp_path: Path) -> None:
    path = write(
        tmp_path / "sa_1.json",
        {
            "image": {"image_id": 1, "width": 20, "height": 12, "file_name": "sa_1.jpg"},
            "annotations": [
                {"id": 5, "segmentation": compressed(boxed()), "predicted_iou": 0.9},
                {"id": 6, "segmentation": compressed(boxed(12, 1, 15, 4)), "predicted_iou": 0.9},
            ],
        },
    )
    assert np.array_equal(ignored(path, "sa_1.jpg"), boxed() | boxed(12, 1, 15, 4))
    assert read_coco(path)("sa_2.jpg", SIZE) is None


def test_codes_of_another_size(tmp_path: Path) -> None:
    path = write(tmp_path / "r.json", [{"image_id": 1, "segmentation": compressed(boxed())}])
    doubled = boxed().repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(ignored(path, "1.jpg", (40, 24)), doubled)
    with pytest.raises(DiskHlocError) as error:
        ignored(path, "1.jpg", (24, 40))
    assert one_line_error(error, path, "20x12", "24x40", "1.jpg")


def test_dilated_objects(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", data_set({"segmentation": [BOX]}))
    grown = ignored(path, dilate=1)
    assert grown.sum() == 6 * 5 + 2 * (6 + 5)
    assert grown[boxed()].all()


@pytest.mark.parametrize(
    "content",
    ['{"images": [', "", "[1, 2]", "null", "3", '"text"', '{"images": []}', '{"a": 1}',
     '{"images": [{"id": 1}], "annotations": []}', '[{"score": 1}]', '[{"image_id": [1]}]',
     '{"images": [], "annotations": null}',
     '{"image": 3, "annotations": []}', '[{"image_id": 1, "score": "high"}]', "\udcff"],
)  # fmt: skip
def test_files_of_another_format(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DiskHlocError) as error:
        read_coco(path, None, 0.5)
    assert one_line_error(error, path)


@pytest.mark.parametrize(
    "segmentation",
    [None, [], {}, [[]], [1, 2, 3], "text", {"size": [12, 20]}, {"counts": "abc"},
     {"size": [12, 20], "counts": 3}, {"size": ["x", 20], "counts": [240]}, 5],
)  # fmt: skip
def test_objects_without_a_whole_segmentation(tmp_path: Path, segmentation: Any) -> None:
    item = {} if segmentation is None else {"segmentation": segmentation}
    path = write(tmp_path / "c.json", data_set(item))
    read = read_coco(path)
    assert read("c.jpg", SIZE) == []
    with pytest.raises(DiskHlocError) as error:
        read("a/b.jpg", SIZE)
    assert one_line_error(error, path, "segmentation", "image 7")
