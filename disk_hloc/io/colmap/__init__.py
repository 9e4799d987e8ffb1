"""COLMAP's databases and models, through pycolmap, any version from 3.13 on.

COLMAP has (0, 0) at the top-left corner of the top-left pixel, hloc's files at its centre. So half
a pixel is added to keypoints when they are written.
"""

from .cameras import (
    CAMERA_MODES,
    bearings,
    camera_mode,
    camera_object,
    camera_rays,
    image_reader_options,
    is_planar,
    require_camera,
)
from .check_database import database_errors, require_sound_database
from .database import (
    VERIFICATION,
    add_images,
    copy_database,
    create_database,
    create_database_of,
    delete_geometry,
    has_geometry,
    import_features_and_matches,
    keep_images,
    pair_id,
    pair_images,
    read_cameras,
    read_counts,
    read_images_and_pairs,
    read_sizes,
    read_verified,
)
from .determinism import SEED, num_threads
from .log import log_to
from .model import (
    MODEL_FILES,
    cam_from_world,
    cameras_of,
    from_pose,
    model_of_photos,
    poses_of,
    read_model,
    read_models,
    registered_images,
    seeing_points,
    to_pose,
    with_keypoints,
)
from .model_folder import DATABASE, GEOREFERENCE, building, remove_model, write_model
from .photos import readable_photos

__all__ = [
    "CAMERA_MODES",
    "DATABASE",
    "GEOREFERENCE",
    "MODEL_FILES",
    "SEED",
    "VERIFICATION",
    "add_images",
    "bearings",
    "building",
    "cam_from_world",
    "camera_mode",
    "camera_object",
    "camera_rays",
    "cameras_of",
    "copy_database",
    "create_database",
    "create_database_of",
    "database_errors",
    "delete_geometry",
    "from_pose",
    "has_geometry",
    "image_reader_options",
    "import_features_and_matches",
    "is_planar",
    "keep_images",
    "log_to",
    "model_of_photos",
    "num_threads",
    "pair_id",
    "pair_images",
    "poses_of",
    "read_cameras",
    "read_counts",
    "read_images_and_pairs",
    "read_model",
    "read_models",
    "read_sizes",
    "read_verified",
    "readable_photos",
    "registered_images",
    "remove_model",
    "require_camera",
    "require_sound_database",
    "seeing_points",
    "to_pose",
    "with_keypoints",
    "write_model",
]
