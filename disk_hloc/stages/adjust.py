"""A robust bundle adjustment at the end of a reconstruction."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pycolmap

from disk_hloc.io.colmap import num_threads, points_seen_by
from disk_hloc.log import logger

# Triggs, McLauchlan, Hartley, Fitzgibbon, "Bundle adjustment - a modern synthesis", 1999; Zhang,
# "Parameter estimation techniques", 1997, table 1: with this many standard deviations Cauchy's loss
# is 95 % as efficient as squares on normal noise.
_CAUCHY = 2.385
# The mean distance of a point of the normal distribution in the plane, in standard deviations.
_MEAN_DISTANCE = float(np.sqrt(np.pi / 2))
# After these, only the fourth digit of the cost changes.
_MAX_ITERATIONS = 10
# COLMAP's largest error of an observation.
MAX_ERROR_PX = 4.0
# Up to this many photos the equations are solved directly, unless points are in too many photos:
# each adds an equation for each two of its photos. COLMAP solves directly below 1,000 photos, and
# takes conjugate gradients from there on. For 3,000 photos of a flight these take 195 s, a direct
# solution 35; three steps for 1,000 photos of one room, with points in 108 photos, 10 and 70.
_DIRECT_UP_TO = 5000
_LONGEST_DIRECT = 30
# At least this many photos are solved directly in any case; COLMAP solves 50 by dense matrices.
_DIRECT_FROM = 200


def main(
    model: pycolmap.Reconstruction,
    *,
    fix_intrinsics: bool = False,
    max_iterations: int = _MAX_ITERATIONS,
) -> None:
    """Adjust poses, points and cameras once more, with a loss that reduces the effect of outliers.

    COLMAP's mappers minimize the squared errors of all observations within 4 px, many times the
    error of sub-pixel keypoints, so a few wrong observations move the cameras. The loss is
    Cauchy's, with a scale estimated from the model's own errors. On Fountain-P11 with its camera
    fixed it reduces the mean position error from 2.22 to 1.88 mm.

    Args:
        model: changed in place. Points that then are more than 4 px off, COLMAP's bound, are
            dropped: where a lens is badly determined, one may fly away.
        fix_intrinsics: keep the parameters of the cameras.
        max_iterations: of the solver.
    """
    if not hasattr(pycolmap, "create_default_bundle_adjuster"):
        logger.info(
            "No robust adjustment: pycolmap %s is too old for it",
            pycolmap.__version__,
        )
        return
    errors = [point.error for point in model.points3D.values()]
    if not errors or not np.median(errors) > 0:
        return
    options, deviation = _robust_options(model, errors, max_iterations)
    options.refine_focal_length = options.refine_extra_params = not fix_intrinsics
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in model.reg_image_ids():
        config.add_image(image_id)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    # pycolmap.bundle_adjustment would turn on COLMAP's log on the screen.
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()
    model.update_point_3d_errors()
    for point_id, point in list(model.points3D.items()):
        if not point.error <= MAX_ERROR_PX:
            model.delete_point3D(point_id)
    logger.info(
        "Adjusted robustly: mean reprojection error %.3f px, standard deviation %.3f px",
        model.compute_mean_reprojection_error(),
        deviation,
    )


def some(
    model: pycolmap.Reconstruction, image_ids: Collection[int], fixed_cameras: Collection[int]
) -> None:
    """Adjust some images and the points that they see, robustly; nothing else changes, to the bit.

    Args:
        model: changed in place.
        image_ids: the images. All others hold the points by their observations.
        fixed_cameras: cameras whose parameters stay.
    """
    # A point that gets an observation forgets its error.
    model.update_point_3d_errors()
    options, _ = _robust_options(model, [point.error for point in model.points3D.values()])
    options.refine_sensor_from_rig = False
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in image_ids:
        config.add_image(image_id)
    for point_id in sorted(points_seen_by(model, image_ids)):
        config.add_variable_point(point_id)
    for camera_id in fixed_cameras:
        config.set_constant_cam_intrinsics(camera_id)
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()
    model.update_point_3d_errors()


def _robust_options(
    model: pycolmap.Reconstruction, errors: Sequence[float], max_iterations: int = _MAX_ITERATIONS
) -> tuple[pycolmap.BundleAdjustmentOptions, float]:
    """Return the options with a robust loss, and the standard deviation of an error in pixels."""
    deviation = float(np.median(errors)) / _MEAN_DISTANCE
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    # As in COLMAP's mappers, the principal point stays fixed.
    options.refine_principal_point = False
    solver = getattr(options, "ceres", options)  # one level deeper since pycolmap 4
    solver.max_num_images_direct_sparse_cpu_solver = _largest_direct(model)
    solver.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    solver.loss_function_scale = _CAUCHY * deviation
    solver.solver_options.max_num_iterations = max_iterations
    solver.solver_options.num_threads = num_threads(model.num_reg_images())
    return options, deviation


def _largest_direct(model: pycolmap.Reconstruction) -> int:
    """Return up to how many photos the equations are solved directly."""
    lengths = np.array([point.track.length() for point in model.points3D.values()], dtype=float)
    # How many photos see the point of an observation, in the mean.
    shared = np.square(lengths).sum() / max(lengths.sum(), 1)
    return _DIRECT_UP_TO if shared <= _LONGEST_DIRECT else _DIRECT_FROM
