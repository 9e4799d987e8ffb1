"""Render synthetic scenes with exact ground truth: a textured room with photos, depth and masks.

World coordinates are in metres with z up. Cameras are as in COLMAP: x right, y down, z forward, and
(0.5, 0.5) is the centre of the top-left pixel.
"""

from .camera import Camera, look_at, project, quaternion
from .dataset import object_mask, write_scene
from .lighting import lit
from .moving import billboard
from .render import Rendering, render
from .room import camera_path, make_room
from .world import Quad, Scene, box, turned

__all__ = [
    "Camera",
    "Quad",
    "Rendering",
    "Scene",
    "billboard",
    "box",
    "camera_path",
    "lit",
    "look_at",
    "make_room",
    "object_mask",
    "project",
    "quaternion",
    "render",
    "turned",
    "write_scene",
]
