"""COLMAP's mappers: from a verified database to models, with the options chosen here.

docs/colmap_options.md goes through the options and says why each is what it is.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pycolmap
from tqdm import tqdm

from disk_hloc.io import colmap
from disk_hloc.log import logger

T = TypeVar("T")

# COLMAP's default (min_num_matches of its mappers).
MIN_NUM_MATCHES = 15
# A growing model need not converge to the last digit: the mapper's last adjustment is global, and a
# robust one follows. COLMAP's defaults take twice as long for the same model (Sacre Coeur 6.3 s
# instead of 3.2 s, Fountain-P11 5.9 s instead of 3.3 s; points and errors agree). One refinement
# fewer of the whole model loses photos of a walk.
_GROWTH = {
    "ba_local_max_num_iterations": 5,
    "ba_local_max_refinements": 1,
    "ba_global_frames_ratio": 2.0,
    "ba_global_points_ratio": 2.0,
    "ba_global_max_refinements": 2,
    # COLMAP's is 0: all 50 iterations, for the same points.
    "ba_global_function_tolerance": 1e-5,
    "ba_min_num_residuals_for_cpu_multi_threading": 5000,
}
_CHOSEN = {
    **_GROWTH,
    # They come last (:mod:`disk_hloc.stages.coloring`).
    "extract_colors": False,
    # It registers photos that see no point, and so joins scenes that share nothing.
    "structure_less_registration_fallback": False,
    # What is known of a rig stays.
    "ba_refine_sensor_from_rig": False,
    # Small scenes of a folder are models, too.
    "min_model_size": 3,
    "max_num_models": 1000,
}
# What COLMAP says where it could not open a database, and the longest pauses before another try.
_NOT_OPENED = "database factory"
_WAITS = (0.1, 0.3, 1.0, 3.0, 10.0)
_WALK = {"init_max_forward_motion": 1.0, "init_min_tri_angle": 4.0}


def _refinement(fix_intrinsics: bool) -> dict[str, Any]:
    """Return the mapper's options for cameras that are known, or are not."""
    if not fix_intrinsics:
        return {}
    names = ("ba_refine_focal_length", "ba_refine_principal_point", "ba_refine_extra_params")
    return dict.fromkeys(names, False)


def options(num_images: int, fix_intrinsics: bool) -> dict[str, Any]:
    """Return the options of the incremental mapper, those that this version of COLMAP has."""
    chosen = {
        "num_threads": colmap.num_threads(num_images),
        "random_seed": colmap.SEED,
        **_CHOSEN,
        **_refinement(fix_intrinsics),
    }
    known = pycolmap.IncrementalPipelineOptions()
    return {name: value for name, value in chosen.items() if hasattr(known, name)}


def _starts(num_places: int) -> tuple[dict[str, Any], ...]:
    """Return options that say which pair may begin a model, in the order to try them.

    COLMAP's defaults come first, but with one pair for each place: where that is not a good one,
    the search for others takes seconds, and often finds none. Photos of a walk all look forwards.
    Two photos alone see each point twice at most.
    """
    return (
        {"init_num_trials": num_places},
        {"mapper": _WALK},
        {},
        {"mapper": _WALK, "triangulation": {"ignore_two_view_tracks": False}},
    )


def incremental(
    database_path: Path,
    folder: Path,
    *,
    fix_intrinsics: bool,
    only: Collection[str] | None = None,
    changes: Mapping[str, Any] | None = None,
    show: bool = True,
) -> list[pycolmap.Reconstruction]:
    """Build models by COLMAP's incremental mapper, without colours.

    Photos that are joined by verified pairs are a place. Of a place whose largest model holds less
    than half of its photos, other pairs to begin with are tried, and the attempt with the largest
    model counts.

    Args:
        database_path: a database with two-view geometries.
        folder: an empty folder, for the files of the attempts.
        fix_intrinsics: keep the cameras' parameters.
        only: the images to map; None maps all.
        changes: options of the mapper that differ from :func:`options`.
        show: show a progress bar.

    Returns:
        The models, the largest first.
    """
    places = _places(database_path, only)
    best: list[list[pycolmap.Reconstruction]] = [[] for _ in places]
    for number, start in enumerate(_starts(len(places))):
        open_places = [
            i
            for i, built in enumerate(best)
            if not built or 2 * built[0].num_reg_images() < len(places[i])
        ]
        names = sorted({name for i in open_places for name in places[i]})
        if not names:
            break
        attempt = folder / str(number)
        attempt.mkdir(parents=True)
        chosen = {
            **options(len(names), fix_intrinsics),
            **(changes or {}),
            **start,
            "image_names": names,
        }
        models = run(database_path, attempt, len(names), chosen, show=show)
        found = [(model, colmap.seeing_points(model)) for model in models]
        for i in open_places:
            here = [model for model, photos in found if photos & places[i]]
            if here and (not best[i] or _size(here[0]) > _size(best[i][0])):
                best[i] = here
    return without_parts(model for models in best for model in models)


def without_parts(models: Iterable[pycolmap.Reconstruction]) -> list[pycolmap.Reconstruction]:
    """Leave out models all of whose photos are in a larger one; return the largest first."""
    kept: list[pycolmap.Reconstruction] = []
    seen: list[set[str]] = []
    for model in largest_first(models):
        photos = colmap.seeing_points(model)
        if not any(photos <= other for other in seen):
            kept.append(model)
            seen.append(photos)
    return kept


def _places(database_path: Path, only: Collection[str] | None) -> list[set[str]]:
    """Return the names of photos that verified pairs join, one set for each place."""
    with closing(sqlite3.connect(database_path)) as database:
        names = dict(database.execute("SELECT image_id, name FROM images"))
    chosen = None if only is None else set(only)
    place_of: dict[str, set[str]] = {}
    for pair_id in verified_pairs(database_path):
        first, second = (names[image_id] for image_id in colmap.pair_images(pair_id))
        if chosen is not None and not chosen.issuperset((first, second)):
            continue
        if second in place_of.get(first, ()):
            continue
        joined = place_of.get(first, {first}) | place_of.get(second, {second})
        for name in joined:
            place_of[name] = joined
    return list({id(place): place for place in place_of.values()}.values())


def run(
    database_path: Path,
    folder: Path,
    num_images: int,
    chosen: Mapping[str, Any],
    start: Path | None = None,
    *,
    show: bool = True,
) -> list[pycolmap.Reconstruction]:
    """Call COLMAP's incremental mapper; return its models that have points, the largest first.

    Args:
        database_path: the input.
        folder: an existing folder for COLMAP's files.
        num_images: how many photos there are, for the progress bar.
        chosen: the options. As in :func:`options`, no colours: no photo is read.
        start: a model to go on from.
        show: show the progress bar.
    """
    with tqdm(total=num_images, desc="Map", unit="image", disable=not show) as progress:

        def start_model() -> None:
            progress.reset(total=num_images)
            progress.update(2)

        models = _once_open(
            lambda: pycolmap.incremental_mapping(
                database_path,
                folder,
                folder,
                options=chosen,
                input_path=start or "",
                initial_image_pair_callback=start_model,
                next_image_callback=progress.update,
            )
        )
    return largest_first(models.values())


def _once_open(call: Callable[[], T]) -> T:
    """Call COLMAP, again if it did not get to open the database.

    It writes to a database to open it, and does not wait where another process is doing so at that
    moment: of processes that open one at the same time, some fail.
    """
    for seconds in _WAITS:
        try:
            return call()
        except RuntimeError as error:
            if _NOT_OPENED not in str(error):
                raise
            time.sleep(random.uniform(0, seconds))
    return call()


def globally(
    database_path: Path, image_dir: Path, folder: Path, *, fix_intrinsics: bool
) -> list[pycolmap.Reconstruction]:
    """Build models by COLMAP's global mapper, which reads the photos for colours.

    Args, Returns: see :func:`incremental`.
    """
    num_images = num_connected_images(database_path)
    adjustment = {
        name.removeprefix("ba_"): value for name, value in _refinement(fix_intrinsics).items()
    }
    chosen = {
        "num_threads": colmap.num_threads(num_images),
        "random_seed": colmap.SEED,
        "mapper": {"bundle_adjustment": adjustment},
    }
    logger.info("Global mapping of %d images ...", num_images)
    models = pycolmap.global_mapping(database_path, image_dir, folder, options=chosen)
    return largest_first(models.values())


def largest_first(models: Iterable[pycolmap.Reconstruction]) -> list[pycolmap.Reconstruction]:
    """Sort models by their registered images, then their points; leave out those without points."""
    return sorted((m for m in models if m.num_points3D() > 0), key=_size, reverse=True)


def _size(model: pycolmap.Reconstruction) -> tuple[int, int]:
    return model.num_reg_images(), model.num_points3D()


def num_connected_images(database_path: Path) -> int:
    """Return how many images have a pair with enough inliers for COLMAP's mappers."""
    pairs = verified_pairs(database_path)
    return len({i for pair_id in pairs for i in colmap.pair_images(pair_id)})


def num_verified_pairs(database_path: Path) -> int:
    """Return how many pairs have enough inliers for COLMAP's mappers."""
    return len(verified_pairs(database_path))


def verified_pairs(database_path: Path) -> dict[int, int]:
    """Return pair id -> number of inliers, of the pairs with enough for COLMAP's mappers."""
    query = "SELECT pair_id, rows FROM two_view_geometries WHERE rows >= ?"
    with closing(sqlite3.connect(database_path)) as database:
        return dict(database.execute(query, (MIN_NUM_MATCHES,)))
