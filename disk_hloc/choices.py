"""The named choices of options, for the command line and for the functions behind it.

They are all here because importing this module is cheap: the command line lists the choices in its
help, which must not wait for torch or pycolmap.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

# Whose code builds models and localizes: hloc's modules, or pycolmap directly.
Engine = Literal["auto", "hloc", "native"]
# How images are mapped: as their number suggests, one by one, in clusters that are joined, or all
# at once.
Mapper = Literal["auto", "incremental", "hierarchical", "global"]
# Which images share a camera.
CameraMode = Literal["auto", "single", "per-folder", "per-image"]
# Which matches are triangulated: those that agree with the known poses, those that agree with an
# estimated two-view geometry, or all.
Verify = Literal["poses", "estimate", "none"]
# What happens at an image that cannot be read: skip it and name it at the end, or stop there.
OnError = Literal["skip", "stop"]
# By how many degrees, counter-clockwise, photos are turned before they are looked at: as EXIF says
# and neighbours agree, as EXIF says, or all by the same.
Turn = Literal["auto", "exif", "none", "0", "90", "180", "270"]
# What happens at an image that has no mask.
MissingMask = Literal["keep", "error"]
# Whose files are converted.
Format = Literal["release", "imc", "hloc"]
# What a model is exported as.
ExportTarget = Literal[
    "colmap-text",
    "ply",
    "undistorted",
    "nerfstudio",
    "gaussian-splatting",
    "openmvg",
    "bundler",
    "geojson",
]
# Who estimates relative poses; `auto` is PoseLib where it is installed.
PoseEstimator = Literal["auto", "poselib", "pycolmap"]

# How the release's detect.py chooses keypoints: maxima, or samples as in training.
DetectMode = Literal["nms", "rng"]
# What the release's view_h5.py draws.
ViewMode = Literal["keypoints", "matches"]
# The camera models that the release's h5_to_db.py knows.
ReleaseCamera = Literal["simple-pinhole", "pinhole", "simple-radial", "opencv"]

# What a match is rewarded for in training.
Reward = Literal["depth", "epipolar"]
# How much of the reward weights a keypoint's log-probability: all of it, or the paper's part.
Credit = Literal["exact", "own"]
# The distance of descriptors, by which training matches them.
Affinity = Literal["euclidean", "cosine"]
# What a training makes better.
Objective = Literal["policy", "line_to_window", "hardest", "attention"]
# The loss of known correspondences and their hardest negatives.
HardestLoss = Literal["contrastive", "triplet"]
# Who changes the parameters in training.
Optimizer = Literal["adam", "sgd"]
# Of the network's convolutions in training.
Precision = Literal["float32", "bfloat16", "float16"]
# Which part of the published training data.
Split = Literal["train", "test", "both"]

ENGINES: Final[tuple[str, ...]] = get_args(Engine)
MAPPERS: Final[tuple[str, ...]] = get_args(Mapper)
VERIFY: Final[tuple[str, ...]] = get_args(Verify)
ON_ERROR: Final[tuple[str, ...]] = get_args(OnError)
TURNS: Final[tuple[str, ...]] = get_args(Turn)
MISSING_MASK: Final[tuple[str, ...]] = get_args(MissingMask)
FORMATS: Final[tuple[str, ...]] = get_args(Format)
EXPORT_TARGETS: Final[tuple[str, ...]] = get_args(ExportTarget)
DETECT_MODES: Final[tuple[str, ...]] = get_args(DetectMode)
VIEW_MODES: Final[tuple[str, ...]] = get_args(ViewMode)
RELEASE_CAMERAS: Final[tuple[str, ...]] = get_args(ReleaseCamera)
REWARDS: Final[tuple[str, ...]] = get_args(Reward)
CREDITS: Final[tuple[str, ...]] = get_args(Credit)
AFFINITIES: Final[tuple[str, ...]] = get_args(Affinity)
OBJECTIVES: Final[tuple[str, ...]] = get_args(Objective)
HARDEST_LOSSES: Final[tuple[str, ...]] = get_args(HardestLoss)
OPTIMIZERS: Final[tuple[str, ...]] = get_args(Optimizer)
