"""Make a data set of rendered rooms with exact depth and poses.

The rooms differ in their textures and camera positions, but not in their walls and furniture. The
data are meant for trying out the training, and for checking that depth, poses and photos agree. A
network for real photos needs real photos.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.poses import read_camera, read_poses
from disk_hloc.io.outputs import note_files, require_noted
from disk_hloc.io.replace import replace_text
from disk_hloc.io.training.files import Scene, write_calibration, write_dataset, write_depth
from disk_hloc.log import logger
from disk_hloc.synthetic_room import camera_path, look_at, make_room, write_scene

from . import covisibility

# The folders from which the release's training reads training and validation data.
SPLITS = ("train", "test")
_RECORD = "made_with.json"


def main(
    output: Path,
    *,
    scenes: int = 4,
    validation_scenes: int = 1,
    photos: int = 24,
    image_size: tuple[int, int] = (768, 576),
    noise: float = 1.5,
    within: tuple[float, float] = covisibility.RANGE,
    size: int = covisibility.TUPLE_SIZE,
    limit: int | None = covisibility.MAX_TUPLES,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Render scenes for training and validation, and choose tuples by the covisibility of depth.

    Complete scenes are not rendered again, so an interrupted run resumes.

    Args:
        output: gets ``train/`` and ``test/``, each with ``dataset.json`` and, for each scene,
            ``images/``, ``calibration/`` and ``depth/``.
        scenes: number of scenes for training.
        validation_scenes: number of other scenes for validation; 0 leaves out ``test/``.
        photos: number of photos in each scene.
        image_size: (width, height) of a photo in pixels.
        noise: standard deviation of the sensor's noise in grey levels.
        within, size, limit: see :func:`disk_hloc.dataset.covisibility.choose_tuples`, per scene.
        seed: seed of textures, camera positions, noise and tuples.
        overwrite: start over, and replace scenes rendered with other options.

    Returns:
        ``output``.

    Raises:
        DiskHlocError: an option is invalid, existing scenes were rendered with other options, the
            photos share too little for a tuple, or scikit-image is missing.
    """
    if scenes < 1 or validation_scenes < 0 or photos < size or min(image_size) < 16:
        raise DiskHlocError(
            f"cannot render {scenes} + {validation_scenes} scenes of {photos} photos of "
            f"{image_size[0]} x {image_size[1]} pixels: use at least one scene, as many photos as "
            f"in a tuple ({size}), and 16 x 16 pixels"
        )
    counts = dict(zip(SPLITS, (scenes, validation_scenes), strict=True))
    conf = {"photos": photos, "image_size": list(image_size), "noise": noise, "seed": seed}
    if not overwrite:
        _require_same(output, counts, conf)
    for which, (split, count) in enumerate(counts.items()):
        if overwrite:
            _remove(output / split)
        if not count:
            continue
        made: dict[str, Scene] = {}
        for number in range(count):
            name = f"{split}_{number:04d}"
            logger.info("Scene %s of %d", name, count)
            made[name] = _scene(
                output / split,
                name,
                [seed, which, number],
                conf,
                within=within,
                size=size,
                limit=limit,
            )
        write_dataset(output / split / "dataset.json", made)
        total = sum(len(scene["tuples"]) for scene in made.values())
        logger.info("%s: %d tuples", output / split / "dataset.json", total)
    return output


def camera_poses(num_views: int, rng: np.random.Generator) -> np.ndarray:
    """Return poses in the room, scattered around :func:`disk_hloc.synthetic_room.camera_path`.

    Args:
        num_views: number of poses.
        rng: random generator. It moves the position and the target by some decimetres, and rolls
            the camera.

    Returns:
        cam_from_world, (num_views, 3, 4) float64, in metres.
    """
    poses = []
    for pose in camera_path(num_views):
        eye = -pose[:, :3].T @ pose[:, 3]
        # Stay away from the walls behind the path and from the furniture in front of it.
        eye += rng.uniform((-0.2, -0.25, -0.4), (0.2, 0.5, 0.35))
        target = eye + 2.5 * pose[2, :3] + rng.uniform(-0.45, 0.45, 3)
        roll = rng.normal(0, np.radians(7))
        up = (0, 0, 1) if abs(roll) < 1e-9 else _rolled(eye, target, roll)
        poses.append(look_at(eye, target, up))
    return np.stack(poses)


def _rolled(eye: np.ndarray, target: np.ndarray, roll: float) -> np.ndarray:
    """Return the up direction of a camera that is rotated by ``roll`` radians about its axis."""
    right, down = look_at(eye, target)[:2, :3]
    return np.sin(roll) * right - np.cos(roll) * down


def _scene(
    folder: Path,
    name: str,
    seeds: list[int],
    conf: dict[str, Any],
    *,
    within: tuple[float, float],
    size: int,
    limit: int | None,
) -> Scene:
    """Render a scene unless it exists, and return its entry for ``dataset.json``."""
    whole = folder / name
    if whole.exists() and not (whole / _RECORD).is_file():
        raise DiskHlocError(
            f"{whole} exists, and was not drawn here: remove it, or give another folder"
        )
    if not whole.exists():
        partial = folder / f".{name}"
        shutil.rmtree(partial, ignore_errors=True)
        _draw(partial, seeds, conf)
        partial.replace(whole)
    truth = np.load(whole / "covisible.npy")
    try:
        tuples = covisibility.choose_tuples(
            truth, within=within, size=size, limit=limit, seed=seeds[-1]
        )
    except DiskHlocError as error:
        raise DiskHlocError(f"{whole}: {error}; or render more photos per scene") from error
    return {
        "image_path": f"{name}/images",
        "calib_path": f"{name}/calibration",
        "depth_path": f"{name}/depth",
        "images": sorted(path.name for path in (whole / "images").iterdir()),
        "tuples": tuples,
    }


def _draw(folder: Path, seeds: list[int], conf: dict[str, Any]) -> None:
    textures, places, noise = (int(s) for s in np.random.SeedSequence(seeds).generate_state(3))
    poses = camera_poses(conf["photos"], np.random.default_rng(places))
    width, height = conf["image_size"]
    write_scene(
        folder,
        scene=make_room(textures),
        size=(width, height),
        cam_from_world=poses,
        depth=True,
        noise=conf["noise"],
        seed=noise,
    )
    fx, fy, cx, cy = read_camera(folder / "camera.txt")[3]
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    depths = []
    for name, pose in zip(read_poses(folder / "poses.txt"), poses, strict=True):
        array = folder / "depth" / f"{Path(name).stem}.npy"
        depths.append(np.load(array))
        array.unlink()
        write_calibration(folder / "calibration", name, matrix, pose[:, :3], pose[:, 3])
        write_depth(folder / "depth", name, depths[-1])
    ratio = covisibility.shared_surface(depths, [matrix] * len(depths), list(poses))
    np.save(folder / "covisible.npy", ratio)
    replace_text(folder / _RECORD, json.dumps(conf) + "\n")
    note_files(folder)


def _remove(folder: Path) -> None:
    """Remove the scenes that were drawn into a folder, and no file of anyone else's."""
    scenes = [record.parent for record in folder.glob(f"*/{_RECORD}")]
    for scene in scenes:
        require_noted(scene)
    if scenes:
        (folder / "dataset.json").unlink(missing_ok=True)
    for scene in scenes:
        shutil.rmtree(scene)


def _require_same(output: Path, counts: dict[str, int], conf: dict[str, Any]) -> None:
    """Check that existing scenes were rendered with the same options."""
    for split in SPLITS:
        for record in sorted((output / split).glob(f"*/{_RECORD}")):
            theirs = json.loads(record.read_text(encoding="utf-8"))
            if theirs != conf:
                differing = ", ".join(
                    f"{key} {theirs.get(key)}, now {value}"
                    for key, value in conf.items()
                    if theirs.get(key) != value
                )
                raise DiskHlocError(
                    f"{record.parent} was rendered with other options ({differing}): use "
                    "--overwrite, or give another folder"
                )
