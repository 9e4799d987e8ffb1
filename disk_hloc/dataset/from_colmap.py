"""Make a data set from a COLMAP model, like DISK's ``colmap2dataset``, for any camera model."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.colmap import MODEL_FILES, cam_from_world, log_to, read_model
from disk_hloc.io.images import ImageReadError, image_size
from disk_hloc.io.outputs import claim_files
from disk_hloc.io.training.depth_maps import read_depth_map
from disk_hloc.io.training.files import (
    Scene,
    calibration_path,
    depth_path,
    require_distinct_stems,
    write_calibration,
    write_dataset,
    write_depth,
)
from disk_hloc.log import logger

from . import covisibility

_PINHOLE = ("SIMPLE_PINHOLE", "PINHOLE")
# Models that equal a pinhole camera if their extra parameters are zero.
_POLYNOMIAL = ("SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")

# Largest difference between the sides of a depth map and those of the scaled photo.
_ROUNDING_PIXELS = 1.0


def main(
    model_dir: Path,
    image_dir: Path,
    output: Path,
    *,
    name: str | None = None,
    only: Collection[str] | None = None,
    depth: Path | None = None,
    with_depth: bool = True,
    within: tuple[float, float] = covisibility.RANGE,
    size: int = covisibility.TUPLE_SIZE,
    limit: int | None = covisibility.MAX_TUPLES,
    seed: int = 0,
    undistort: bool = True,
    overwrite: bool = False,
) -> Path:
    """Make a data set of one scene from a model, its photos and their depth maps.

    ``dataset.json`` is written last, so if it exists, the data set is complete.

    Args:
        model_dir: the folder of a COLMAP model.
        image_dir: the folder of its photos.
        output: gets ``dataset.json``, ``calibration/``, ``depth/`` and, for photos with distortion,
            ``undistorted/``. Photos without distortion are not copied.
        name: name of the scene; the name of ``output`` by default.
        only: names of the images to use; None uses all images of the model.
        depth: the folder of COLMAP's ``*.geometric.bin``; by default ``stereo/depth_maps`` in the
            dense workspace of the model or the photos.
        with_depth: False leaves out depth, for the epipolar reward.
        within, size, limit, seed: see :func:`disk_hloc.dataset.covisibility.choose_tuples`.
        undistort: False refuses photos with distortion instead of undistorting them.
        overwrite: replace a data set in ``output``.

    Returns:
        The path of ``dataset.json``.

    Raises:
        DiskHlocError: the model cannot be read, photos are missing or have another size, depth maps
            are missing or do not fit, there are no tuples, or the data set exists already.
    """
    target = output / "dataset.json"
    if target.exists() and not overwrite:
        raise DiskHlocError(f"{target} already exists: use --overwrite, or give another folder")
    model = read_model(model_dir)
    images = [image for image in _images(model) if only is None or image.name in only]
    names = [image.name for image in images]
    require_distinct_stems(names)
    _require_photos(image_dir, images, model, model_dir)
    depth_dir = _depth_dir(model_dir, image_dir, depth) if with_depth else None
    _require_other_inputs(output, (model_dir, image_dir, depth_dir))
    distorted = sorted({c.model.name for c in _cameras(model, images) if _has_distortion(c)})
    if distorted and depth_dir is not None:
        raise DiskHlocError(
            f"the cameras of {model_dir} have distortion ({', '.join(distorted)}), but depth maps "
            "belong to undistorted photos: give sparse/ and images/ of the dense workspace in "
            "which they were made, or --no-depth"
        )
    if distorted and not undistort:
        raise DiskHlocError(
            f"the cameras of {model_dir} have distortion ({', '.join(distorted)}): give a model of "
            "undistorted photos (colmap image_undistorter), or let them be undistorted"
        )
    if depth_dir is not None:
        images = _with_depth(images, depth_dir)
    # Options without a result are found here, before hours of work.
    observed = [
        np.array([p.point3D_id for p in image.points2D if p.has_point3D()], np.int64)
        for image in tqdm(images, desc="Points", unit="image")
    ]
    tuples = covisibility.choose_tuples(
        covisibility.shared_points(observed), within=within, size=size, limit=limit, seed=seed
    )
    used = sorted({i for one in tuples for i in one})
    chosen = [images[i].name for i in used]
    files = _files(chosen, with_depth=depth_dir is not None, undistorted=bool(distorted))
    claim_files(output, files, whole=target.name)
    photos = str(image_dir.absolute())
    if distorted:
        logger.info("Undistorting the photos (camera model %s)", " and ".join(distorted))
        model = _undistorted(model_dir, image_dir, output, chosen)
        photos = "undistorted/images"
    by_name = {model.images[i].name: model.images[i] for i in model.reg_image_ids()}
    for one in tqdm(chosen, desc="Write", unit="image"):
        image = by_name[one]
        camera = model.cameras[image.camera_id]
        pose = cam_from_world(image)
        write_calibration(
            output / "calibration",
            one,
            camera.calibration_matrix(),
            pose.rotation.matrix(),
            pose.translation,
        )
        if depth_dir is not None:
            path = _depth_file(depth_dir, one)
            fitted = _fit(read_depth_map(path), (camera.width, camera.height), path)
            write_depth(output / "depth", one, fitted)
    place = {i: k for k, i in enumerate(used)}
    scene: Scene = {"image_path": photos, "calib_path": "calibration"}
    if depth_dir is not None:
        scene["depth_path"] = "depth"
    scene |= {"images": chosen, "tuples": [[place[i] for i in one] for one in tuples]}
    write_dataset(target, {name or output.resolve().name: scene})
    logger.info("%s: %d tuples of %d images", target, len(tuples), len(chosen))
    return target


def _files(names: Sequence[str], *, with_depth: bool, undistorted: bool) -> list[str]:
    """The files that are written beside ``dataset.json``."""
    paths = [calibration_path(Path("calibration"), name) for name in names]
    if with_depth:
        paths += [depth_path(Path("depth"), name) for name in names]
    if undistorted:
        paths += [Path("undistorted", name) for name in _undistorted_files(names)]
    return [path.as_posix() for path in paths]


def _undistorted_files(names: Sequence[str]) -> list[str]:
    return [*(f"images/{name}" for name in names), *(f"sparse/{name}" for name in MODEL_FILES)]


def _require_other_inputs(output: Path, inputs: Sequence[Path | None]) -> None:
    """Check that nothing is read from the folders that an earlier data set is removed from."""
    for path in inputs:
        for name in ("calibration", "depth", "undistorted"):
            folder = (output / name).resolve()
            if path is not None and folder in (path.resolve(), *path.resolve().parents):
                raise DiskHlocError(
                    f"{path} is in {output}, and would be replaced by what is made of it: give "
                    "another folder"
                )


def _images(model: pycolmap.Reconstruction) -> list[Any]:
    images = [model.images[image_id] for image_id in model.reg_image_ids()]
    return sorted(images, key=lambda image: image.name)


def _cameras(model: pycolmap.Reconstruction, images: Sequence[Any]) -> list[pycolmap.Camera]:
    return [model.cameras[camera_id] for camera_id in {image.camera_id for image in images}]


def _has_distortion(camera: pycolmap.Camera) -> bool:
    """Check whether a camera differs from a pinhole camera."""
    if camera.model.name in _POLYNOMIAL:
        return bool(np.any(camera.params[camera.extra_params_idxs()]))
    return camera.model.name not in _PINHOLE


def _require_photos(
    image_dir: Path, images: Sequence[Any], model: pycolmap.Reconstruction, model_dir: Path
) -> None:
    missing = [image.name for image in images if not (image_dir / image.name).is_file()]
    if missing:
        raise DiskHlocError(
            f"{image_dir} is missing {len(missing)} of the {len(images)} photos of {model_dir}: "
            f"{listing(missing)}; give the folder to which the names in the model are relative"
        )
    for image in tqdm(images, desc="Check", unit="image"):
        path, camera = image_dir / image.name, model.cameras[image.camera_id]
        try:
            size = image_size(path)
        except ImageReadError as error:
            raise DiskHlocError(f"{path} cannot be read as an image: {error}") from error
        if size != (camera.width, camera.height):
            raise DiskHlocError(
                f"{path} has {size[0]} x {size[1]} pixels, but its camera in {model_dir} "
                f"{camera.width} x {camera.height}: give the photos from which the model was made"
            )


def _depth_dir(model_dir: Path, image_dir: Path, given: Path | None) -> Path:
    if given is not None:
        if not given.is_dir():
            raise DiskHlocError(f"the folder of depth maps {given} does not exist")
        return given
    model_dir, image_dir = model_dir.resolve(), image_dir.resolve()
    # In a workspace, the model is in sparse/ or sparse/0/, and the photos are in images/.
    for workspace in (model_dir, model_dir.parent, model_dir.parent.parent, image_dir.parent):
        folder = workspace / "stereo" / "depth_maps"
        if any(folder.rglob("*.geometric.bin")):
            return folder
    raise DiskHlocError(
        f"no depth maps found for {model_dir} (stereo/depth_maps of a dense workspace): give "
        "--depth, or --no-depth to train with epipolar geometry alone"
    )


def _depth_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.geometric.bin"


def _with_depth(images: Sequence[Any], depth_dir: Path) -> list[Any]:
    """Return the images that have a depth map."""
    found = [image for image in images if _depth_file(depth_dir, image.name).is_file()]
    without = [image.name for image in images if not _depth_file(depth_dir, image.name).is_file()]
    if not found:
        raise DiskHlocError(
            f"{depth_dir} has no depth maps of the model's images, such as {without[0]}"
            ".geometric.bin: run COLMAP's patch_match_stereo with geometric consistency, or give "
            "--no-depth"
        )
    if without:
        logger.warning(
            "skipping %d of %d images, which have no depth map in %s: %s",
            len(without), len(images), depth_dir, listing(without),
        )  # fmt: skip
    return found


def _fit(depth: np.ndarray, size: tuple[int, int], path: Path) -> np.ndarray:
    """Resize an (H, W) depth map to its photo's (width, height), which stereo may have scaled down.

    Raises:
        DiskHlocError: the aspect ratios differ.
    """
    width, height = size
    scale = max(depth.shape[1] / width, depth.shape[0] / height)
    off = max(abs(depth.shape[1] - scale * width), abs(depth.shape[0] - scale * height))
    if off > _ROUNDING_PIXELS:
        raise DiskHlocError(
            f"{path} has {depth.shape[1]} x {depth.shape[0]} pixels, but its photo {width} x "
            f"{height}: the depth maps were made from other photos"
        )
    if depth.shape == (height, width):
        return depth
    # Interpolation would create depths between two surfaces.
    return cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT)


def _undistorted(
    model_dir: Path, image_dir: Path, output: Path, names: Sequence[str]
) -> pycolmap.Reconstruction:
    """Undistort photos to ``output/undistorted``, and return the undistorted model."""
    folder, partial = output / "undistorted", output / ".undistorted"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    errors: list[Exception] = []

    def run() -> None:
        try:
            pycolmap.undistort_images(partial, model_dir, image_dir, image_names=list(names))
        except Exception as error:  # noqa: BLE001 - passed to the main thread
            errors.append(error)

    # COLMAP does not report its progress, so the files that it has written are counted.
    with log_to(partial, verbose=False), tqdm(total=len(names), desc="Undistort") as progress:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.5)
            progress.update(sum((partial / "images" / n).exists() for n in names) - progress.n)
    missing = [name for name in names if not (partial / "images" / name).is_file()]
    if errors or missing:
        reason = " ".join(str(errors[0]).split())[:200] if errors else listing(missing)
        shutil.rmtree(partial, ignore_errors=True)
        raise DiskHlocError(f"COLMAP could not undistort the photos of {image_dir}: {reason}")
    model = read_model(partial / "sparse")
    # The other files are only for COLMAP's stereo.
    for kept in _undistorted_files(names):
        if (partial / kept).exists():  # not all versions of COLMAP write all files of a model
            (folder / kept).parent.mkdir(parents=True, exist_ok=True)
            (partial / kept).replace(folder / kept)
    shutil.rmtree(partial)
    return model
