"""A picture of a model: a photo with its triangulated keypoints, the points and the cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image, ImageDraw

from disk_hloc.geometry import Pose
from disk_hloc.io.colmap import poses_of, registered_images

from .drawing import (
    BACKGROUND,
    ZOOM,
    Color,
    dimmed,
    draw_dots,
    read_photo,
    save_picture,
    shrunk,
    side_by_side,
    to_image,
)

CAMERA_COLOR: Color = (255, 96, 64)
PANEL_HEIGHT = 600


def model_overview(model: pycolmap.Reconstruction, image_dir: Path, output: Path) -> Path:
    """Draw the photo of a model with the most triangulated keypoints, and the model's points.

    Args:
        model: a reconstruction, in COLMAP's frame.
        image_dir: its photos.
        output: the PNG file to write.

    Returns:
        ``output``.
    """
    best = max(registered_images(model), key=lambda image: image.num_points3D)
    left = photo_with_tracks(model, best, image_dir)
    right = points_and_cameras(model, width=left.width)
    picture, _ = side_by_side([left, right])
    output.parent.mkdir(parents=True, exist_ok=True)
    save_picture(picture, output)
    return output


def photo_with_tracks(
    model: pycolmap.Reconstruction, image: pycolmap.Image, image_dir: Path
) -> Image.Image:
    """Draw a photo, dimmed, with its triangulated keypoints, brighter for longer tracks."""
    photo = read_photo(image_dir / image.name)
    scale = PANEL_HEIGHT / photo.shape[0]
    width = round(photo.shape[1] * scale)
    panel = dimmed(to_image(photo).resize((width * ZOOM, PANEL_HEIGHT * ZOOM)))
    points = [point for point in image.points2D if point.has_point3D()]
    num_images = model.num_reg_images()
    lengths = [model.points3D[one.point3D_id].track.length() / num_images for one in points]
    colors = [
        (round(80 + 175 * length), round(255 - 90 * length), round(120 * (1 - length)))
        for length in lengths
    ]
    xy = np.array([point.xy for point in points]).reshape(-1, 2) * scale * ZOOM
    draw_dots(ImageDraw.Draw(panel), xy, colors, radius=3)
    return shrunk(panel)


def points_and_cameras(model: pycolmap.Reconstruction, width: int) -> Image.Image:
    """Draw the points in their colours and the cameras, seen from behind and above the cameras."""
    xyz = np.array([point.xyz for point in model.points3D.values()])
    rgb = np.array([point.color for point in model.points3D.values()])
    poses = list(poses_of(model).values())
    rotation, center = _viewpoint(xyz, poses)
    size = np.array([width, PANEL_HEIGHT]) * ZOOM
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
    for pose in poses:
        in_world = corners @ pose.rotation + pose.center
        frustum, frustum_depth = project(np.vstack([pose.center, in_world]))
        if frustum_depth.min() <= 0:
            continue
        apex, *outline = [tuple(point) for point in frustum]
        canvas.line([*outline, outline[0]], fill=CAMERA_COLOR, width=ZOOM)
        for corner in outline:
            canvas.line([apex, corner], fill=CAMERA_COLOR, width=ZOOM)
    return shrunk(panel)


def _viewpoint(xyz: np.ndarray, poses: list[Pose]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rotation (view_from_world) and centre of a view from behind and above all."""
    centers = np.array([pose.center for pose in poses])
    up = -np.mean([pose.rotation[1] for pose in poses], axis=0)
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
