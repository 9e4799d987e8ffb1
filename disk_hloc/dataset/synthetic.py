"""A data set of drawn rooms, whose depth and poses are exact.

The rooms differ in their textures and in the cameras' places; furniture and walls stand where they
stand in every room. It serves to try the training, and to see that depth, poses and photos agree;
a network for real photos wants real photos.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.hloc.poses import read_camera, read_poses
from disk_hloc.io.replace import replace_text
from disk_hloc.io.training.files import Scene, write_calibration, write_dataset, write_depth
from disk_hloc.log import logger
from disk_hloc.synthetic_room import camera_path, look_at, make_room, write_scene

from . import covisibility

# The folders that the release's training looks in: to train on, and to validate with.
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
    """Draw scenes to train on and others to validate with; tuples go by what depth says is shared.

    A scene that is whole is not drawn again, so a run that was stopped resumes.

    Args:
        output: gets ``train/`` and ``test/``, each with ``dataset.json`` and, for each scene,
            ``images/``, ``calibration/`` and ``depth/``.
        scenes: how many to train on.
        validation_scenes: how many others to validate with; 0 leaves ``test/`` out.
        photos: of each scene.
        image_size: (width, height) of a photo in pixels.
        noise: standard deviation of the sensor's noise in grey levels.
        within, size, limit: of :func:`disk_hloc.dataset.covisibility.choose_tuples`, a scene each.
        seed: of textures, places, noise and tuples.
        overwrite: draw anew, also what was drawn with other options.

    Returns:
        ``output``.

    Raises:
        DiskHlocError: an impossible option, scenes drawn with other options are there, photos that
            share too little for a tuple, or scikit-image is missing.
    """
    if scenes < 1 or validation_scenes < 0 or photos < size or min(image_size) < 16:
        raise DiskHlocError(
            f"{scenes} + {validation_scenes} scenes of {photos} photos of {image_size[0]} x "
            f"{image_size[1]} pixels cannot be made: a scene needs as many photos as a tuple "
            f"({size}), and a photo 16 pixels a side"
        )
    counts = dict(zip(SPLITS, (scenes, validation_scenes), strict=True))
    conf = {"photos": photos, "image_size": list(image_size), "noise": noise, "seed": seed}
    if not overwrite:
        _require_same(output, counts, conf)
    for which, (split, count) in enumerate(counts.items()):
        if overwrite:
            shutil.rmtree(output / split, ignore_errors=True)
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
    """Poses in the room, scattered about :func:`disk_hloc.synthetic_room.camera_path`.

    Args:
        num_views: how many.
        rng: of the scatter: decimetres of place and of what is looked at, and a roll.

    Returns:
        cam_from_world, (num_views, 3, 4) float64, in metres.
    """
    poses = []
    for pose in camera_path(num_views):
        eye = -pose[:, :3].T @ pose[:, 3]
        # Kept clear of the walls behind the path and of the furniture before it.
        eye += rng.uniform((-0.2, -0.25, -0.4), (0.2, 0.5, 0.35))
        target = eye + 2.5 * pose[2, :3] + rng.uniform(-0.45, 0.45, 3)
        roll = rng.normal(0, np.radians(7))
        up = (0, 0, 1) if abs(roll) < 1e-9 else _rolled(eye, target, roll)
        poses.append(look_at(eye, target, up))
    return np.stack(poses)


def _rolled(eye: np.ndarray, target: np.ndarray, roll: float) -> np.ndarray:
    """The up direction of a camera that is turned by ``roll`` about its line of sight."""
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
    """One scene, drawn unless it is there, as ``dataset.json`` has it."""
    whole = folder / name
    if not whole.is_dir():
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
        raise DiskHlocError(f"{whole}: {error}; or draw more photos of a scene") from error
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


def _require_same(output: Path, counts: dict[str, int], conf: dict[str, Any]) -> None:
    """Check that the scenes that are there were drawn with the same options."""
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
                    f"{record.parent} was drawn with other options ({differing}): --overwrite, or "
                    "give another folder"
                )
