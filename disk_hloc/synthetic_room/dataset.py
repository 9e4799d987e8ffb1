"""Write a scene as a folder of photos with the camera, poses, depth and masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError
from disk_hloc.geometry import Pose
from disk_hloc.io.hloc.poses import write_poses
from disk_hloc.io.outputs import claim_files
from disk_hloc.io.ply import MESH, write_ply

from .camera import Camera, quaternion
from .render import Rendering, render
from .room import camera_path, make_room
from .world import Quad, Scene


def object_mask(rendering: Rendering, scene: Scene, names: Sequence[str]) -> NDArray[np.bool_]:
    """Return (H, W) bool, True at the pixels whose centres see one of the objects `names`.

    Raises:
        ValueError: the scene has no object of a name.
    """
    return np.isin(rendering.labels, scene.labels_of(names))


def write_scene(
    folder: str | Path,
    *,
    scene: Scene | None = None,
    num_views: int = 12,
    size: tuple[int, int] = (1024, 768),
    cam_from_world: ArrayLike | None = None,
    depth: bool = False,
    masks_of: Sequence[str] = (),
    moving: Callable[[int, NDArray[np.float64]], Sequence[Quad]] | None = None,
    noise: float = 1.5,
    seed: int = 0,
    jpeg_quality: int = 95,
) -> Path:
    """Render a scene to a folder, and replace the files of an earlier call.

    Files:
        images/0000.jpg, ...: one photo per view.
        camera.txt: `PINHOLE w h fx fy cx cy`, with (0.5, 0.5) at the centre of the top-left pixel.
        poses.txt: `name qw qx qy qz tx ty tz` per line, cam_from_world in metres.
        mesh.ply: the surfaces of the scene without what moves, in metres.
        depth/0000.npy, ... if `depth`: (H, W) float32, z-depth in metres, 0 where nothing is seen.
        masks/0000.jpg.png, ... if `masks_of` names objects: COLMAP's masks, 0 (ignore) where one
            of the objects is seen, 255 elsewhere.

    Args:
        folder: the folder, which is created.
        scene: the scene; `make_room(seed)` by default.
        num_views: number of views, if `cam_from_world` is None.
        size: (width, height) of a photo in pixels.
        cam_from_world: (N, 3, 4) poses; `camera_path(num_views)` by default.
        depth: write depth maps.
        masks_of: names of the objects to mask.
        moving: function, such as `billboard`, that takes the index of a view and its (3, 4)
            cam_from_world and returns quads that are only added to that view. They are not lit
            beyond their textures, and cast no shadows.
        noise: standard deviation of the sensor's noise in grey levels.
        seed: seed of the noise, and of the default scene.
        jpeg_quality: quality of the photos, 0 to 100.

    Returns:
        The folder.

    Raises:
        ValueError: the scene has no object of a name, or the size or the poses are invalid.
        DiskHlocError: a file cannot be written or is not one of an earlier call, or the default
            scene is used and scikit-image is missing.
    """
    width, height = size
    if width < 1 or height < 1:
        raise ValueError(f"invalid image size of {width} x {height} pixels")
    poses = (
        camera_path(num_views)
        if cam_from_world is None
        else np.asarray(cam_from_world, dtype=np.float64)
    )
    if poses.ndim != 3 or poses.shape[1:] != (3, 4):
        raise ValueError(f"cam_from_world must have shape (N, 3, 4), found {poses.shape}")
    scene = make_room(seed) if scene is None else scene
    added = [() if moving is None else tuple(moving(i, pose)) for i, pose in enumerate(poses)]
    # An unknown name must raise an error before files are removed or rendered.
    Scene(scene.quads + tuple(quad for quads in added for quad in quads)).labels_of(masks_of)
    camera = Camera.from_size(width, height)
    folder = Path(folder)
    try:
        # With fewer views than before, old photographs would stay behind.
        claim_files(folder, _files(len(poses), depth, bool(masks_of)), whole="poses.txt")
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for name, wanted in (("depth", depth), ("masks", bool(masks_of))):
            if wanted:
                (folder / name).mkdir(exist_ok=True)
        truth = {}
        for i, pose in enumerate(tqdm(poses, desc="Draw", unit="image")):
            stem = f"{i:04d}"
            in_view = Scene(scene.quads + added[i]) if added[i] else scene
            seen = render(in_view, camera, pose, noise=noise, seed=_seed_of_view(seed, i))
            _write_image(
                folder / "images" / f"{stem}.jpg",
                seen.image[:, :, ::-1],
                [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality],
            )
            if depth:
                np.save(folder / "depth" / f"{stem}.npy", seen.depth)
            if masks_of:
                # A moving object may only be in other views.
                names = [name for name in masks_of if name in in_view.object_names]
                keep = np.where(object_mask(seen, in_view, names), 0, 255).astype(np.uint8)
                _write_image(folder / "masks" / f"{stem}.jpg.png", keep, [])
            truth[f"{stem}.jpg"] = Pose(np.array(quaternion(pose[:, :3])), pose[:, 3])
        numbers = (camera.fx, camera.fy, camera.cx, camera.cy)
        (folder / "camera.txt").write_text(
            " ".join(["PINHOLE", str(width), str(height), *(f"{n:.6f}" for n in numbers)]) + "\n"
        )
        write_ply(folder / MESH, *scene.mesh())
        write_poses(folder / "poses.txt", truth)
    except OSError as error:
        raise DiskHlocError(f"cannot write the scene to {folder}: {error}") from error
    return folder


def _seed_of_view(seed: int, view: int) -> int:
    return int(np.random.SeedSequence([seed, view]).generate_state(1)[0])


def _files(num_views: int, depth: bool, masks: bool) -> list[str]:
    """Return the names of a scene's files."""
    names = ["camera.txt", "poses.txt", MESH]
    for i in range(num_views):
        names.append(f"images/{i:04d}.jpg")
        names += [f"depth/{i:04d}.npy"] if depth else []
        names += [f"masks/{i:04d}.jpg.png"] if masks else []
    return names


def _write_image(path: Path, image: NDArray[np.uint8], options: list[int]) -> None:
    # cv2.imwrite cannot write to every path on Windows, and does not say why it failed.
    done, data = cv2.imencode(path.suffix, np.ascontiguousarray(image), options)
    if not done:
        raise OSError(f"cannot encode {path.name}")
    path.write_bytes(data.tobytes())
