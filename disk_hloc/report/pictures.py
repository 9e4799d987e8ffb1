"""Pictures of results: photos with their keypoints, models with their cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycolmap
from PIL import Image, ImageDraw
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.colmap import cam_from_world, read_verified
from disk_hloc.io.hloc.features import list_keypoints, read_keypoints
from disk_hloc.io.hloc.matches import read_matches
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.images import ImageReadError, read_image
from disk_hloc.io.masks import Masks, keep_keypoints
from disk_hloc.io.store import reading

BACKGROUND = (18, 20, 26)
TINT = (230, 40, 160)
KEPT_COLOR = (90, 255, 90)
DROPPED_COLOR = (255, 60, 40)
CAMERA_COLOR = (255, 96, 64)
PANEL_HEIGHT = 600
PAIR_HEIGHT = 300
LINES = 150  # In a panel, about so many at most.
TITLE_HEIGHT = 32
_ZOOM = 2  # Drawn larger and shrunk, so that points and lines have smooth edges.


def model_overview(model: pycolmap.Reconstruction, image_dir: Path, output: Path) -> Path:
    """A picture of a model: its best seen photo with the triangulated keypoints, and its points.

    Args:
        model: a reconstruction, in COLMAP's frame.
        image_dir: its photos.
        output: the PNG file to write.

    Returns:
        ``output``.
    """
    best = max(
        (model.images[image_id] for image_id in model.reg_image_ids()),
        key=lambda image: image.num_points3D,
    )
    left = photo_with_tracks(model, best, image_dir)
    right = points_and_cameras(model, width=left.width)
    picture = Image.new("RGB", (left.width + right.width, PANEL_HEIGHT), BACKGROUND)
    picture.paste(left, (0, 0))
    picture.paste(right, (left.width, 0))
    output.parent.mkdir(parents=True, exist_ok=True)
    picture.save(output)
    return output


def photo_with_tracks(
    model: pycolmap.Reconstruction, image: pycolmap.Image, image_dir: Path
) -> Image.Image:
    """A photo, dimmed, with a dot on each triangulated keypoint, brighter for longer tracks."""
    photo = read_image(image_dir / image.name)
    scale = PANEL_HEIGHT / photo.shape[0]
    width = round(photo.shape[1] * scale)
    size = (width * _ZOOM, PANEL_HEIGHT * _ZOOM)
    panel = Image.fromarray(np.ascontiguousarray(photo)).resize(size)
    panel = Image.blend(panel, Image.new("RGB", panel.size, BACKGROUND), 0.35)
    canvas = ImageDraw.Draw(panel)
    num_images = model.num_reg_images()
    for point in image.points2D:
        if not point.has_point3D():
            continue
        x, y = np.asarray(point.xy) * scale * _ZOOM
        length = model.points3D[point.point3D_id].track.length() / num_images
        color = (round(80 + 175 * length), round(255 - 90 * length), round(120 * (1 - length)))
        canvas.ellipse((x - 3, y - 3, x + 3, y + 3), fill=color)
    return panel.resize((width, PANEL_HEIGHT), Image.Resampling.LANCZOS)


def points_and_cameras(model: pycolmap.Reconstruction, width: int) -> Image.Image:
    """The points in their colours and the cameras, seen from behind and above the cameras."""
    xyz = np.array([point.xyz for point in model.points3D.values()])
    rgb = np.array([point.color for point in model.points3D.values()])
    poses = [cam_from_world(model.images[image_id]) for image_id in model.reg_image_ids()]
    world_from_cam = [(pose.rotation.matrix().T, pose.inverse().translation) for pose in poses]
    rotation, center = _viewpoint(xyz, world_from_cam)
    size = np.array([width, PANEL_HEIGHT]) * _ZOOM
    focal = 0.9 * size.max()

    def project(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        in_view = (points - center) @ rotation.T
        depth = np.maximum(in_view[:, 2], 1e-6)
        return in_view[:, :2] / depth[:, None] * focal + size / 2, in_view[:, 2]

    panel = Image.new("RGB", tuple(size), BACKGROUND)
    canvas = ImageDraw.Draw(panel)
    pixels, depth = project(xyz)
    nearest = np.percentile(depth, 2)
    # The far ones first, so that the near ones cover them.
    for index in np.argsort(-depth):
        if depth[index] <= 0.05 * nearest:
            continue
        x, y = pixels[index]
        radius = float(np.clip(2.2 * nearest / depth[index], 1.0, 3.0))
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(rgb[index]))
    span = 0.04 * float(np.linalg.norm(np.median(np.abs(xyz - center), axis=0)))
    corners = span * np.array([[-1, -0.75, 1.6], [1, -0.75, 1.6], [1, 0.75, 1.6], [-1, 0.75, 1.6]])
    for world_rotation, origin in world_from_cam:
        frustum, frustum_depth = project(np.vstack([origin, corners @ world_rotation.T + origin]))
        if frustum_depth.min() <= 0:
            continue
        apex, *outline = [tuple(point) for point in frustum]
        canvas.line([*outline, outline[0]], fill=CAMERA_COLOR, width=_ZOOM)
        for corner in outline:
            canvas.line([apex, corner], fill=CAMERA_COLOR, width=_ZOOM)
    return panel.resize((width, PANEL_HEIGHT), Image.Resampling.LANCZOS)


def _viewpoint(
    xyz: np.ndarray, world_from_cam: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (view_from_world) and centre of a view from behind and above all cameras."""
    centers = np.array([center for _, center in world_from_cam])
    up = -np.mean([rotation[:, 1] for rotation, _ in world_from_cam], axis=0)
    up /= np.linalg.norm(up)
    target = np.median(xyz, axis=0)
    backward = centers.mean(axis=0) - target
    reach = np.linalg.norm(backward) + np.linalg.norm(centers - centers.mean(axis=0), axis=1).max()
    center = target + 1.3 * reach * backward / np.linalg.norm(backward) + 0.8 * reach * up
    middle = 0.75 * target + 0.25 * centers.mean(axis=0)
    forward = (middle - center) / np.linalg.norm(middle - center)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward]), center


def same_pair(
    image_dir: Path,
    rows: Mapping[str, tuple[Path, Path, Path]],
    pairs: Sequence[Pair],
    output: Path,
) -> Path:
    """A picture of one pair of photos under several features and matchers.

    Matches that verify are green, others red. All have a dot at each end, one in so many has a
    line, the same share in all rows. The pair is the middle one, by how many matches the rows
    verify, of those in which one verifies any.

    Args:
        image_dir: the photos.
        rows: title -> features file, matches file, and the model's folder with its database.
        pairs: those to choose from, all of them matched and verified.
        output: the PNG file to write.

    Returns:
        ``output``.
    """
    verified = {
        title: read_verified(sfm_dir / "database.db") for title, (_, _, sfm_dir) in rows.items()
    }
    counts = {
        pair: sum(len(_of_pair(found, pair)) for found in verified.values()) for pair in pairs
    }
    ranked = sorted((pair for pair in pairs if counts[pair]), key=lambda pair: counts[pair])
    pair = ranked[len(ranked) // 2] if ranked else pairs[0]
    photos = [read_image(image_dir / name) for name in pair]
    drawn = []
    for title, (feature_path, match_path, _) in rows.items():
        with reading(feature_path) as features, reading(match_path) as matches:
            keypoints = [read_keypoints(features, name) for name in pair]
            matched = read_matches(matches, *pair)
        inliers = {tuple(match) for match in _of_pair(verified[title], pair)}
        matched = np.zeros((0, 2), np.int64) if matched is None else matched
        good = np.array([tuple(match) in inliers for match in matched], bool)
        drawn.append((title, keypoints, matched, good))
    every = max(1, *(-(-len(good) // LINES) for *_, good in drawn))
    shown = "" if every == 1 else f" (1 line in {every})"
    panels = [
        _titled(
            photos_with_matches(photos, keypoints, matched, good, every),
            f"{title}: {good.sum()} of {len(good)} matches verify{shown}",
        )
        for title, keypoints, matched, good in drawn
    ]
    columns = 2 if len(panels) > 1 else 1
    width, height = panels[0].size
    size = (columns * width, -(-len(panels) // columns) * height)
    picture = Image.new("RGB", size, BACKGROUND)
    for i, panel in enumerate(panels):
        picture.paste(panel, (i % columns * width, i // columns * height))
    picture.save(output)
    return output


def photos_with_matches(
    photos: Sequence[np.ndarray],
    keypoints: Sequence[np.ndarray],
    matches: np.ndarray,
    good: np.ndarray,
    every: int = 1,
) -> Image.Image:
    """Two photos side by side, dimmed, with lines between matches: good ones green, others red.

    Args:
        photos: two (H, W, 3) uint8 RGB.
        keypoints: two (N, 2), x and y in pixels, (0, 0) at the centre of the top-left pixel.
        matches: (K, 2) indices into the keypoints.
        good: (K,) bool.
        every: one in so many of the good and of the others has a line; all have dots.
    """
    sides, left, ends = [], 0, []
    for i, photo in enumerate(photos):
        scale = PAIR_HEIGHT * _ZOOM / photo.shape[0]
        size = (round(photo.shape[1] * scale), PAIR_HEIGHT * _ZOOM)
        sides.append((left, Image.fromarray(np.ascontiguousarray(photo)).resize(size)))
        ends.append((keypoints[i][matches[:, i]] + 0.5) * scale + [left, 0])
        left += size[0]
    panel = Image.new("RGB", (left, PAIR_HEIGHT * _ZOOM), BACKGROUND)
    for x, side in sides:
        panel.paste(side, (x, 0))
    panel = Image.blend(panel, Image.new("RGB", panel.size, BACKGROUND), 0.35)
    canvas = ImageDraw.Draw(panel)
    for chosen, color in ((good, KEPT_COLOR), (~good, DROPPED_COLOR)):
        index = np.flatnonzero(chosen)
        for i in index[::every]:
            canvas.line([tuple(ends[0][i]), tuple(ends[1][i])], fill=color, width=1)
        for x, y in np.concatenate([ends[0][index], ends[1][index]]):
            canvas.ellipse((x - 2, y - 2, x + 2, y + 2), fill=color)
    return panel.resize((left // _ZOOM, PAIR_HEIGHT), Image.Resampling.LANCZOS)


def _titled(panel: Image.Image, title: str) -> Image.Image:
    """A panel under a line of text."""
    framed = np.full((panel.height + TITLE_HEIGHT, panel.width, 3), BACKGROUND, np.uint8)
    framed[TITLE_HEIGHT:] = np.asarray(panel)
    # Not Pillow's, which before 10.1 has one size of letters only.
    baseline = (8, TITLE_HEIGHT - 9)
    cv2.putText(
        framed, title, baseline, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (235, 235, 235), 1, cv2.LINE_AA
    )
    return Image.fromarray(framed)


def _of_pair(verified: Mapping[Pair, np.ndarray], pair: Pair) -> np.ndarray:
    """(K, 2) matches of a pair, stored either way around."""
    if pair in verified:
        return verified[pair]
    return verified.get((pair[1], pair[0]), np.zeros((0, 2), np.int64))[:, ::-1]


def mask_previews(
    folder: Path, image_dir: Path, feature_path: Path, conf: Mapping[str, Any] | None
) -> Path:
    """Draw each photo of a features file: mask tinted, keypoints kept and dropped.

    Args:
        folder: gets ``a/b.jpg.png`` for ``a/b.jpg``.
        image_dir: the photos.
        feature_path: the features file; keypoints that the mask drops are those of a file that
            was extracted without it.
        conf: of the masks (:data:`disk_hloc.io.masks.DEFAULT_CONF`); None draws keypoints alone.

    Returns:
        ``folder``.
    """
    masks = Masks(conf) if conf is not None else None
    with reading(feature_path) as features:
        for name in tqdm(list_keypoints(feature_path), desc="Preview", unit="image"):
            try:
                photo = read_image(image_dir / name)
            except ImageReadError as error:
                raise DiskHlocError(f"{image_dir / name} cannot be read: {error}") from error
            height, width = photo.shape[:2]
            keep = masks(name, (width, height)) if masks else np.ones((height, width), dtype=bool)
            picture = photo_with_mask(photo, keep, read_keypoints(features, name))
            path = folder / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    return folder


def photo_with_mask(photo: np.ndarray, keep: np.ndarray, keypoints: np.ndarray) -> Image.Image:
    """A photo with its mask's ignored region tinted, kept keypoints green, dropped ones red.

    Args:
        photo: (H, W, 3) uint8 RGB.
        keep: (H, W) bool, True where keypoints may be.
        keypoints: (N, 2) x and y in pixels, (0, 0) at the centre of the top-left pixel.
    """
    tinted = photo.copy()
    tinted[~keep] = (0.5 * photo[~keep] + 0.5 * np.array(TINT)).astype(np.uint8)
    panel = Image.fromarray(tinted)
    canvas = ImageDraw.Draw(panel)
    radius = max(1.5, max(photo.shape) / 600)
    for (x, y), kept in zip(keypoints, keep_keypoints(keep, keypoints), strict=True):
        color = KEPT_COLOR if kept else DROPPED_COLOR
        canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
    return panel
