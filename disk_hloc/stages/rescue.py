"""Photos that a model lacks, tried again with other features.

DISK is blind where SIFT is not: between photos that are turned against each other, or of grass and
leaves. So photos that the mapper left out, and models that stayed apart, get other features too,
and those that are likely to see the same. Their matches join those in the database, and mapping
goes on from the largest model.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pycolmap
from tqdm import tqdm

from disk_hloc.io import colmap
from disk_hloc.io.colmap import isolated
from disk_hloc.io.hloc.features import read_keypoints
from disk_hloc.io.hloc.matches import read_best_first
from disk_hloc.io.hloc.pairs import Pair
from disk_hloc.io.images import read_image
from disk_hloc.io.store import reading
from disk_hloc.log import logger
from disk_hloc.models import turn_votes

from . import building, mapping, verify

# How many photos a missing one is tried with: those that look most like it.
MAX_NEIGHBORS = 8
# A model of more photos is a scene of its own.
_A_PAIR = 2
# With more pairs to look at, a missing photo is compared with those alone that it was matched with.
_MAX_LOOKS = 20_000


def choose_pairs(
    sfm_dir: Path | None, database_path: Path, image_dir: Path, pairs: Sequence[Pair]
) -> list[Pair]:
    """Return the pairs to match with other features.

    Those are the pairs of each missing photo with those that look most like it, whichever way up
    (:mod:`disk_hloc.models.turn_votes`), the pairs of photos of different models that do, and the
    verified pairs among all these photos: what is matched between two photos of the model becomes
    the points that others are registered by.

    Args:
        sfm_dir: the models, of :func:`disk_hloc.stages.reconstruct.main`; None if none was built.
        database_path: their database.
        image_dir: the photos.
        pairs: the pairs that were matched.

    Returns:
        Sorted pairs of photos that have been matched; none if all are in one model, or look like
        no other.
    """
    models = colmap.read_models(sfm_dir) if sfm_dir else []
    # Two photos with a model of their own lack the large one as much as those without any.
    models = [
        model
        for number, model in enumerate(models)
        if number == 0 or len(colmap.seeing_points(model)) > _A_PAIR
    ]
    model_of = colmap.model_of_photos(models)
    names = sorted({name for pair in pairs for name in pair})
    missing = [name for name in names if name not in model_of]
    if not missing and len(models) == 1:
        return []
    matched = {_sorted(pair) for pair in pairs}
    known = {
        _sorted(pair)
        for pair, matches in colmap.read_verified(database_path).items()
        if len(matches) >= verify.MIN_NUM_INLIERS
    }
    partners: dict[str, list[Pair]] = {name: [] for name in missing}
    if len(missing) * len(names) <= _MAX_LOOKS:
        for name in missing:
            partners[name] = [_sorted((name, other)) for other in names if other != name]
    else:
        for pair in matched:
            for name in partners.keys() & set(pair):
                partners[name].append(pair)
    apart = [
        pair
        for pair in sorted(matched)
        if all(name in model_of for name in pair) and model_of[pair[0]] != model_of[pair[1]]
    ]
    tried = [pair for found in partners.values() for pair in found]
    votes = _votes(image_dir, list(dict.fromkeys([*tried, *apart])))
    chosen = {pair for pair in apart if votes[pair] >= turn_votes.MIN_VOTES}
    for found in partners.values():
        best = sorted(found, key=lambda pair: (-votes[pair], pair))[:MAX_NEIGHBORS]
        chosen.update(pair for pair in best if votes[pair] > 0)
    near = {name for pair in chosen for name in pair}
    return sorted(chosen | {pair for pair in known if near.issuperset(pair)})


def _sorted(pair: Pair) -> Pair:
    first, second = sorted(pair)
    return first, second


def _votes(image_dir: Path, pairs: Sequence[Pair]) -> dict[Pair, int]:
    """Return how many matches of small versions of two photos agree on a similarity."""
    names = sorted({name for pair in pairs for name in pair})

    def look(name: str) -> turn_votes.Oriented:
        return turn_votes.describe(read_image(image_dir / name, grayscale=True))

    def count(pair: Pair) -> int:
        return int(turn_votes.votes(seen[pair[0]], seen[pair[1]]).max())

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
        described = tqdm(threads.map(look, names), total=len(names), desc="Look", unit="image")
        seen = dict(zip(names, described, strict=True))
        counted = tqdm(threads.map(count, pairs), total=len(pairs), desc="Compare", unit="pair")
        return dict(zip(pairs, counted, strict=True))


def main(
    sfm_dir: Path,
    database_path: Path,
    image_dir: Path,
    pairs: Sequence[Pair],
    feature_path: Path,
    match_path: Path,
    *,
    fix_intrinsics: bool = False,
    robust: bool = True,
    verbose: bool = False,
) -> bool:
    """Add matches of other features to a model's database, and go on mapping.

    The keypoints of the other features come after those that an image has, so the indices of the
    first features stay right. The models and the database are replaced if photos were gained.

    Args:
        sfm_dir: the models, of :func:`disk_hloc.stages.reconstruct.main`.
        database_path: their database, or that of which no model could be built: then ``sfm_dir``
            has none of these photos, and the database must not be in it.
        image_dir: the photos.
        pairs: those of :func:`choose_pairs`.
        feature_path: other features of their photos.
        match_path: their matches.
        fix_intrinsics, robust, verbose: see :func:`disk_hloc.stages.reconstruct.main`.

    Returns:
        Whether photos were gained.
    """
    try:
        with colmap.building(sfm_dir) as folder:
            isolated.call(
                _build,
                folder,
                (sfm_dir, database_path, image_dir, feature_path, match_path),
                list(pairs),
                fix_intrinsics,
                robust,
                task=f"adding photos to {sfm_dir}",
                log_dir=sfm_dir,
                verbose=verbose,
            )
    except NothingGained:
        return False
    return True


class NothingGained(Exception):
    """The model is as large as before."""


def _build(
    folder: Path,
    paths: tuple[Path, Path, Path, Path, Path],
    pairs: list[Pair],
    fix_intrinsics: bool,
    robust: bool,
) -> None:
    sfm_dir, former_path, image_dir, feature_path, match_path = paths
    known = former_path.parent == sfm_dir
    models = colmap.read_models(sfm_dir) if known else []
    database_path = folder / colmap.DATABASE
    colmap.copy_database(former_path, database_path)
    keypoints = add_matches(database_path, pairs, feature_path, match_path)
    verify.main(database_path, pairs, best_first=True)
    models = [colmap.with_keypoints(model, keypoints) for model in models]
    with pycolmap.Database.open(database_path) as database:
        names = [image.name for image in database.read_all_images()]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        files = database_path, Path(scratch)
        if models:
            grown = _go_on(models[0], *files, len(names), fix_intrinsics)
        else:
            grown = mapping.incremental(*files, fix_intrinsics=fix_intrinsics)
    before, inside = _seen_in(models), _seen_in(grown)
    rest = [model for model in models[1:] if _is_left(colmap.seeing_points(model), inside)]
    gained = len(_seen_in([*grown, *rest])) - len(before)
    if gained <= 0:
        raise NothingGained
    logger.info("%d photos registered by other features", gained)
    found = mapping.largest_first([*grown, *rest])
    building.write_models(found, image_dir, folder, fix_intrinsics=fix_intrinsics, robust=robust)


def _is_left(photos: set[str], inside: Collection[str]) -> bool:
    """Return whether a model still has a scene of its own, after another one has grown."""
    return len(photos.difference(inside)) > min(_A_PAIR, len(photos) - 1)


def _seen_in(models: Iterable[pycolmap.Reconstruction]) -> set[str]:
    return {name for model in models for name in colmap.seeing_points(model)}


def _go_on(
    model: pycolmap.Reconstruction,
    database_path: Path,
    folder: Path,
    num_images: int,
    fix_intrinsics: bool,
) -> list[pycolmap.Reconstruction]:
    """Triangulate what the model's own photos match by the other features, then register others."""
    start, grown = folder / "start", folder / "grown"
    start.mkdir()
    grown.mkdir()
    options = mapping.options(num_images, fix_intrinsics)
    pycolmap.triangulate_points(
        model, database_path, folder, start, clear_points=False, options=options
    ).write(start)
    return mapping.run(database_path, grown, num_images, options, start)


def add_matches(
    database_path: Path, pairs: Iterable[Pair], feature_path: Path, match_path: Path
) -> dict[int, np.ndarray]:
    """Add other features and their matches to a database, and remove the pairs' geometries.

    A pair keeps its verified matches, the surest, before those of the other features; of a pair
    that was not verified the former matches are those of chance, and are removed.

    Args:
        database_path: the database, which is changed.
        pairs: the pairs to change.
        feature_path: the other features of their images.
        match_path: the other matches.

    Returns:
        Image id -> (N, 2) all keypoints, of the images of the pairs.
    """
    pairs = list(pairs)
    verified = colmap.read_verified(database_path)
    with (
        reading(feature_path) as features,
        reading(match_path) as stored,
        pycolmap.Database.open(database_path) as database,
        pycolmap.DatabaseTransaction(database),
    ):
        ids = {image.name: image.image_id for image in database.read_all_images()}
        keypoints, counts = _add_keypoints(
            database, ids, features, {name for pair in pairs for name in pair}
        )
        for first, second in pairs:
            former = verified.get((first, second))
            if former is None and (second, first) in verified:
                former = verified[second, first][:, ::-1]
            if former is None or len(former) < verify.MIN_NUM_INLIERS:
                former = np.zeros((0, 2), np.int64)
            offsets = np.array([counts[first], counts[second]])
            found, _ = read_best_first(stored, first, second)
            added = [] if found is None else [found + offsets]
            matches = np.concatenate([former, *added]).astype(np.uint32)
            pair_ids = ids[first], ids[second]
            database.delete_matches(*pair_ids)
            colmap.delete_geometry(database, *pair_ids)
            database.write_matches(*pair_ids, matches)
    return keypoints


def _add_keypoints(
    database: pycolmap.Database,
    ids: Mapping[str, int],
    features: h5py.File,
    names: Collection[str],
) -> tuple[dict[int, np.ndarray], dict[str, int]]:
    """Return image id -> all keypoints, and name -> how many of them were there before."""
    keypoints, counts = {}, {}
    for name in sorted(names):
        former = database.read_keypoints(ids[name])[:, :2]
        counts[name] = len(former)
        added = read_keypoints(features, name) + np.float32(0.5)
        keypoints[ids[name]] = np.concatenate([former, added])
        database.update_keypoints(ids[name], keypoints[ids[name]])
    return keypoints, counts
