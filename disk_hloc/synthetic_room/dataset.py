"""Write a scene as a folder of photographs with cameras, poses, depth and masks."""

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

from .camera import Camera, quaternion
from .render import Rendering, render
from .room import camera_path, make_room
from .world import Quad, Scene


def object_mask(rendering: Rendering, scene: Scene, names: Sequence[str]) -> NDArray[np.bool_]:
    """(H, W) bool, True at the pixels whose centres see one of the objects `names`.

    Raises ValueError for a name that the scene lacks.
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
    """Render a scene into `folder` and return it. What an earlier call wrote there is replaced.

    Files:
        images/0000.jpg, ...: one photograph a view.
        camera.txt: `PINHOLE w h fx fy cx cy`, (0.5, 0.5) being the centre of the top-left pixel.
        poses.txt: `name qw qx qy qz tx ty tz` a line, cam_from_world, metres.
        depth/0000.npy, ... if `depth`: (H, W) float32, z-depth in metres, 0 for nothing.
        masks/0000.jpg.png, ... if `masks_of` names objects: COLMAP's masks, 0 (ignore) where one
            of the objects is seen, 255 elsewhere.

    `scene` is `make_room(seed)` unless given, `size` is (width, height) in pixels and
    `cam_from_world` (N, 3, 4) the poses, by default `camera_path(num_views)`. `noise` is the
    standard deviation of sensor noise in grey levels; `seed` decides it as well.

    `moving`, such as `billboard`, gives what stands elsewhere in each view: called with the index
    of a view and its cam_from_world (3, 4), it returns quads that are added to that view alone.
    Their light is what their textures hold, and they cast no shadow.

    Raises ValueError for objects that the scene lacks and for impossible sizes or poses;
    DiskHlocError where a file cannot be written, or where the room is wanted and scikit-image is
    missing.
    """
    width, height = size
    if width < 1 or height < 1:
        raise ValueError(f"an image of {width} x {height} pixels is impossible")
    poses = (
        camera_path(num_views)
        if cam_from_world is None
        else np.asarray(cam_from_world, dtype=np.float64)
    )
    if poses.ndim != 3 or poses.shape[1:] != (3, 4):
        raise ValueError(f"cam_from_world is not (N, 3, 4) but {poses.shape}")
    scene = make_room(seed) if scene is None else scene
    added = [() if moving is None else tuple(moving(i, pose)) for i, pose in enumerate(poses)]
    # An unknown name must show before anything is removed or rendered.
    Scene(scene.quads + tuple(quad for quads in added for quad in quads)).labels_of(masks_of)
    camera = Camera.from_size(width, height)
    folder = Path(folder)
    try:
        _clear(folder)
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
                # What moves may be in other views only.
                names = [name for name in masks_of if name in in_view.object_names]
                keep = np.where(object_mask(seen, in_view, names), 0, 255).astype(np.uint8)
                _write_image(folder / "masks" / f"{stem}.jpg.png", keep, [])
            truth[f"{stem}.jpg"] = Pose(np.array(quaternion(pose[:, :3])), pose[:, 3])
        numbers = (camera.fx, camera.fy, camera.cx, camera.cy)
        (folder / "camera.txt").write_text(
            " ".join(["PINHOLE", str(width), str(height), *(f"{n:.6f}" for n in numbers)]) + "\n"
        )
        write_poses(folder / "poses.txt", truth)
    except OSError as error:
        raise DiskHlocError(f"cannot write the scene to {folder}: {error}") from error
    return folder


def _seed_of_view(seed: int, view: int) -> int:
    return int(np.random.SeedSequence([seed, view]).generate_state(1)[0])


def _clear(folder: Path) -> None:
    """Remove what an earlier call wrote: with fewer views, old photographs would stay behind."""
    for name, suffix in (("images", ".jpg"), ("depth", ".npy"), ("masks", ".jpg.png")):
        for path in (folder / name).glob(f"*{suffix}"):
            if path.name.removesuffix(suffix).isdigit():
                path.unlink()
        if (folder / name).is_dir() and not any((folder / name).iterdir()):
            (folder / name).rmdir()
    for name in ("camera.txt", "poses.txt"):
        (folder / name).unlink(missing_ok=True)


def _write_image(path: Path, image: NDArray[np.uint8], options: list[int]) -> None:
    # Through memory: cv2.imwrite cannot write to every path on Windows and hides why it failed.
    done, data = cv2.imencode(path.suffix, np.ascontiguousarray(image), options)
    if not done:
        raise OSError(f"cannot encode {path.name}")
    path.write_bytes(data.tobytes())
