"""From global descriptors to a pairs file: each query with the most similar database images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from disk_hloc import device as devices
from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.io.colmap import read_model
from disk_hloc.io.hloc.global_features import length_of, list_globals, read_globals
from disk_hloc.io.hloc.pairs import Pair, write_pairs
from disk_hloc.io.images import read_image_list
from disk_hloc.io.outputs import require_output
from disk_hloc.io.store import reading
from disk_hloc.io.text import require_listable
from disk_hloc.log import logger

# How much is in memory at a time: descriptors of queries and of database images, and their cosines.
QUERY_BYTES = 1 << 29
DATABASE_BYTES = 1 << 26
COSINE_BYTES = 1 << 27


def main(
    global_path: Path,
    output: Path,
    num_matched: int,
    *,
    query_prefix: str | Sequence[str] | None = None,
    query_list: Path | Sequence[str] | None = None,
    db_prefix: str | Sequence[str] | None = None,
    db_list: Path | Sequence[str] | None = None,
    db_model: Path | None = None,
    db_descriptors: Path | Sequence[Path] | None = None,
    min_score: float = 0.0,
    device: str = "auto",
) -> Path:
    """Pair each query with the database images of the greatest cosine, the greatest first.

    As in hloc's ``pairs_from_retrieval``, an image is not paired with itself, and if queries and
    database overlap, both (a, b) and (b, a) may be written. An image whose descriptor is zero is
    in no pair.

    Args:
        global_path: the queries' global descriptors (:mod:`disk_hloc.io.hloc.global_features`), of
            unit length; ours or those of hloc's extractors.
        output: the pairs file.
        num_matched: pairs of each query; fewer if the database is smaller.
        query_prefix: the queries are the images whose names begin with this, or with one of these.
        query_list: or the images of a list, or of a file of image names in hloc's format. Without
            prefix and list, all images of the file are queries.
        db_prefix: the same, for the database.
        db_list: the same, for the database.
        db_model: the database is the images of this COLMAP model; excludes the two before.
        db_descriptors: the files of the database's descriptors; without them, ``global_path``.
        min_score: the smallest cosine of a pair; cosines of DISK's VLAD are between 0 and 1.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Returns:
        ``output``.

    Raises:
        DiskHlocError: no such image, a name that is in no file or in two, descriptors of different
            lengths, a name with a tab or a line break, or no pair was found.
    """
    if db_model is not None:
        if db_list or db_prefix:
            raise DiskHlocError("give one of --db-model, --db-list and --db-prefix")
        db_list = [image.name for image in read_model(db_model).images.values()]
    if num_matched < 1:
        raise DiskHlocError(f"each query needs at least one pair, not {num_matched}")
    db_paths = [global_path] if db_descriptors is None else db_descriptors
    db_paths = [db_paths] if isinstance(db_paths, Path) else db_paths
    inputs: dict[str, Path | None] = {"descriptors": global_path}
    inputs |= {f"database {i}": path for i, path in enumerate(db_paths, start=1)}
    lists = {"list of queries": query_list, "list of database images": db_list}
    inputs |= {what: path for what, path in lists.items() if isinstance(path, Path)}
    require_output(output, "text", inputs)
    query_names = _select([global_path], query_prefix, query_list)
    db_names = _select(db_paths, db_prefix, db_list)
    require_listable([*query_names, *db_names])
    if len(db_names) < num_matched:
        logger.info(
            "%d images of each query were asked for, but the database has %d",
            num_matched,
            len(db_names),
        )
    resolved = devices.resolve(device)
    found: list[Pair] = []
    zero: set[str] = set()
    with ExitStack() as stack:
        opened = {path: stack.enter_context(reading(path)) for path in {global_path, *db_paths}}
        queries = {name: opened[path] for name, path in query_names.items()}
        database = {name: opened[path] for name, path in db_names.items()}
        _require_one_length([queries, database])
        for names, descriptors in _blocks(queries, QUERY_BYTES):
            zero |= _zeros(names, descriptors)
            best = nearest(names, descriptors, database, num_matched, min_score, resolved, zero)
            found += [(name, other) for name in names for other in best[name]]
    _warn_of_zero(zero)
    alone = sorted(set(query_names) - zero - {name for name, _ in found})
    if alone:
        logger.warning(
            "%d queries have no image with a cosine of %g or more: %s",
            len(alone),
            min_score,
            listing(alone),
        )
    if not found:
        raise DiskHlocError(
            f"no pair of the images of {global_path} has a cosine of {min_score:g} or more: "
            "give other images or a lower minimum score"
        )
    write_pairs(output, found)
    logger.info("%d pairs of %d queries", len(found), len(query_names))
    return output


def most_similar(
    global_path: Path,
    queries: Sequence[str],
    database: Sequence[str],
    count: int,
    *,
    min_score: float = 0.0,
    device: str = "auto",
) -> dict[str, list[str]]:
    """Return the images of the greatest cosine of each query, the greatest first.

    Args:
        global_path: the global descriptors of all images.
        queries: names of the queries. Those whose descriptor is zero are named in a warning.
        database: names of the images to find; an image does not find itself.
        count: how many, at most.
        min_score: the smallest cosine.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Raises:
        DiskHlocError: an image has no descriptor, or their lengths differ.
    """
    found: dict[str, list[str]] = {}
    zero: set[str] = set()
    resolved = devices.resolve(device)
    with reading(global_path) as file:
        images = dict.fromkeys(database, file)
        for names, descriptors in _blocks(dict.fromkeys(queries, file), QUERY_BYTES):
            zero |= _zeros(names, descriptors)
            found |= nearest(names, descriptors, images, count, min_score, resolved, zero)
    _warn_of_zero(zero)
    return found


@torch.inference_mode()
def nearest(
    names: Sequence[str],
    descriptors: np.ndarray,
    database: Mapping[str, h5py.File],
    count: int,
    min_score: float,
    device: torch.device,
    zero: set[str],
) -> dict[str, list[str]]:
    """Return the database images of the greatest cosine, for queries that fit in memory.

    Args:
        names: Q names of queries.
        descriptors: (Q, D) float32, of unit length or zero.
        database: name -> the open file with its descriptor.
        count: the largest number of images for each query.
        min_score: the smallest cosine.
        device: where the cosines are computed.
        zero: names of images whose descriptor is zero; those of the database are added.

    Returns:
        Query -> names of others, the greatest cosine first.
    """
    queries = torch.from_numpy(descriptors).to(device)
    count = min(count, len(database))
    scores = queries.new_full((len(names), count), -torch.inf)
    indices = torch.zeros((len(names), count), dtype=torch.int64, device=device)
    place = {name: i for i, name in enumerate(database)}
    itself = np.array([place.get(name, -1) for name in names])
    barren = np.array([name in zero for name in names])
    start = 0
    with tqdm(total=len(database), desc="Retrieve", unit="image") as progress:
        most = COSINE_BYTES // len(names) * descriptors.shape[1]
        for others, block in _blocks(database, min(DATABASE_BYTES, most)):
            cosines = queries @ torch.from_numpy(block).to(device).T
            cosines.masked_fill_(cosines < min_score, -torch.inf)
            without = _zeros(others, block)
            zero |= without
            cosines[:, [i for i, name in enumerate(others) if name in without]] = -torch.inf
            cosines[np.flatnonzero(barren)] = -torch.inf
            rows = np.flatnonzero((itself >= start) & (itself < start + len(others)))
            cosines[rows, itself[rows] - start] = -torch.inf
            scores, indices = _merge(scores, indices, cosines, start)
            start += len(others)
            progress.update(len(others))
    candidates = list(database)
    kept = scores.isfinite().cpu().numpy()
    return {
        name: [candidates[i] for i in row[valid]]
        for name, row, valid in zip(names, indices.cpu().numpy(), kept, strict=True)
    }


def _merge(scores: Tensor, indices: Tensor, cosines: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Return the (Q, k) greatest of those kept and of (Q, N) more, which start at ``start``."""
    count = scores.shape[1]
    more = cosines.topk(min(count, cosines.shape[1]), dim=1)
    best = torch.cat([scores, more.values], dim=1).topk(count, dim=1)
    return best.values, torch.cat([indices, more.indices + start], dim=1).gather(1, best.indices)


def _select(
    paths: Sequence[Path],
    prefix: str | Sequence[str] | None,
    chosen: Path | Sequence[str] | None,
) -> dict[str, Path]:
    """Return the images asked for, each with the file of its descriptor."""
    present: dict[str, Path] = {}
    for path in paths:
        names = list_globals(path)
        if not names:
            raise DiskHlocError(f"{path} has no global descriptors: describe the images first")
        twice = [name for name in names if name in present]
        if twice:
            raise DiskHlocError(
                f"{present[twice[0]]} and {path} both describe {listing(twice)}: give each image "
                "in one file"
            )
        present |= dict.fromkeys(names, path)
    where = listing([str(path) for path in paths])
    if prefix is not None and chosen is not None:
        raise DiskHlocError(f"give a prefix or a list of the images of {where}, not both")
    if prefix is not None:
        prefixes = [prefix] if isinstance(prefix, str) else list(prefix)
        idle = [p for p in prefixes if not any(name.startswith(p) for name in present)]
        if idle or not prefixes:
            raise DiskHlocError(
                f"no image of {where} has a name that begins with {listing(idle)}; the names "
                f"are like {listing(list(present), limit=2)}"
            )
        return {name: path for name, path in present.items() if name.startswith(tuple(prefixes))}
    if chosen is None:
        return present
    if isinstance(chosen, (str, Path)):
        asked = read_image_list(Path(chosen), known=present)
    else:
        asked = list(chosen)
    missing = sorted(set(asked) - set(present))
    if missing or not asked:
        raise DiskHlocError(
            f"{len(missing)} of the {len(asked)} images asked for are not in {where}: "
            f"{listing(missing)}; describe them first, or remove them from the list"
        )
    return {name: present[name] for name in asked}


def _require_one_length(selected: Sequence[Mapping[str, h5py.File]]) -> None:
    """Check that the descriptors of all files have the same length."""
    some = {file: name for images in selected for name, file in images.items()}
    lengths = {file.filename: length_of(file, name) for file, name in some.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{length} in {path}" for path, length in lengths.items())
        raise DiskHlocError(
            f"the global descriptors differ in length ({listed}), so two models made them: "
            "describe all images with one model"
        )


def _blocks(
    images: Mapping[str, h5py.File], num_bytes: int
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield names and their (N, D) descriptors, up to ``num_bytes`` at a time."""
    for file, group in groupby(images, key=images.__getitem__):
        names = list(group)
        size = max(1, num_bytes // (4 * length_of(file, names[0])))
        for start in range(0, len(names), size):
            part = names[start : start + size]
            yield part, read_globals(file, part)


def _zeros(names: Sequence[str], descriptors: np.ndarray) -> set[str]:
    return {name for name, row in zip(names, descriptors, strict=True) if not row.any()}


def _warn_of_zero(names: set[str]) -> None:
    if names:
        logger.warning(
            "%d images have no features, so their descriptor is zero and they are in no pair: %s",
            len(names),
            listing(sorted(names)),
        )
