"""Match all pairs of images like the release's match.py."""

from __future__ import annotations

import math
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from disk_hloc import device as devices
from disk_hloc.errors import DiskHlocError
from disk_hloc.io import release as files
from disk_hloc.io.digests import digest_of_arrays
from disk_hloc.io.store import CONF_ATTRIBUTE, Fingerprint, fingerprints, plan, reading, writing
from disk_hloc.io.store.hdf5 import read
from disk_hloc.io.store.journal import Dataset
from disk_hloc.models import nearest

MAX_FULL_MATRIX = 10000**2


def main(
    h5_dir: Path,
    *,
    rt: float | None = None,
    save_threshold: float = -math.inf,
    u16: bool = False,
    f16: bool = False,
    max_full_matrix: int = MAX_FULL_MATRIX,
    overwrite: bool = False,
    device: str = "auto",
) -> Path:
    """Match all pairs of images in a folder.

    Pairs that are already in ``matches.h5`` are kept, so an interrupted run resumes. As in the
    release, a pair has no entry if one of its images has fewer than two descriptors. Unlike the
    release, files that were made with other options are refused.

    Args:
        h5_dir: folder with ``keypoints.h5`` and ``descriptors.h5``; gets ``matches.h5``.
        rt: ratio threshold: the distance of a match must be less than ``rt`` times that of the
            second nearest neighbour, in both directions; None is 1.
        save_threshold: a pair with fewer matches has no entry.
        u16: store indices as uint16 instead of int64.
        f16: compute distances in float16.
        max_full_matrix: for more distances than this, the nearest and second nearest neighbours are
            found per chunk of this many distances; a keypoint may then have several matches. The
            release does this to save memory, we do it to get the same matches.
        overwrite: start over.
        device: ``auto``, ``cpu``, ``cuda``, ...

    Returns:
        The matches file.

    Raises:
        DiskHlocError: a file is missing or broken, was made with other options or from other
            features, or the disk is full.
    """
    path = files.path_of(h5_dir, "matches")
    descriptor_path = files.path_of(h5_dir, "descriptors")
    threshold = 1.0 if rt is None else rt
    where = devices.resolve(device)
    dtype = torch.float16 if f16 else torch.float32
    with files.reading_arrays(descriptor_path) as descriptors:
        names = sorted(descriptors)
        made_with = {
            "rt": threshold,
            "save_threshold": str(save_threshold),
            "u16": u16,
            "f16": f16,
            "max_full_matrix": max_full_matrix,
            "features": descriptors.attrs.get(CONF_ATTRIBUTE),
        }

        def load(name: str) -> Tensor:
            return torch.from_numpy(read(descriptors, name, (None, None))).to(where, dtype).T

        @cache
        def digest(name: str) -> str:
            found = fingerprints.read_of(descriptors, name)
            if found is not None:
                return found.content
            return digest_of_arrays([(name, read(descriptors, name, (None, None)))])

        def made_of(group: str, _: Fingerprint | None) -> str:
            return " ".join(map(digest, group.split("/")))

        first, values = "", torch.empty(0)
        with writing(path, made_with, overwrite=overwrite, libver=files.LIBVER) as store:
            listed = set(store.names)
            if store.base:
                with reading(store.base) as file:
                    listed.update(name for name in file if name not in names)
                    listed.update(f"{name}/{other}" for name in file for other in file[name])
            pairs = ["/".join(pair) for pair in combinations(names, 2)]
            # Pairs with few matches are not stored, and matched again.
            planned = plan(
                path, pairs, store.fingerprints_of(listed), made_of,
                kinds=("pairs",) * 2, unit="pair", verb="match",
            )  # fmt: skip
            planned.log()
            store.drop(name for name in planned.outdated if name not in names)
            for name in names:
                # The release has a group for each image, even an empty one.
                store.add(name, [])
            todo = [group.split("/") for group in planned.todo]
            for name0, name1 in tqdm(todo, desc="Match", unit="pair", disable=not todo):
                if name0 != first:
                    first, values = name0, load(name0)
                others = load(name1)
                if min(values.shape[1], others.shape[1]) < 2:
                    continue
                matches = match_descriptors(values, others, threshold, max_full_matrix)
                if matches.shape[1] >= save_threshold:
                    stored = _as_u16(matches, path) if u16 else matches
                    group = f"{name0}/{name1}"
                    store.add(group, [Dataset(group, stored)], made_of(group, None))
    return path


@torch.inference_mode()
def match_descriptors(
    descriptors0: Tensor,
    descriptors1: Tensor,
    rt: float = 1.0,
    max_full_matrix: int = MAX_FULL_MATRIX,
) -> np.ndarray:
    """Match two images as the release does.

    Args:
        descriptors0: (D, N) of unit length, N at least 2.
        descriptors1: (D, M) of unit length, M at least 2.
        rt, max_full_matrix: see :func:`main`.

    Returns:
        (2, K) int64 indices, sorted by the first, then the second.

    Raises:
        DiskHlocError: ``max_full_matrix`` is smaller than two rows of distances.
    """
    count0, count1 = descriptors0.shape[1], descriptors1.shape[1]
    chunk0, chunk1 = max_full_matrix // count1, max_full_matrix // count0
    if min(chunk0, chunk1) < 2:
        raise DiskHlocError(
            "--max-full-matrix must be at least twice the number of keypoints of an image "
            f"({max(count0, count1)}), found {max_full_matrix}"
        )
    if chunk0 >= count0 and chunk1 >= count1:
        matches = nearest.match(descriptors0, descriptors1, ratio_threshold=rt)[0].cpu().numpy()
        index = np.flatnonzero(matches >= 0)
        return np.stack([index, matches[index]])
    forward = _one_way(descriptors0, descriptors1, rt, chunk1)
    backward = _one_way(descriptors1, descriptors0, rt, chunk0)
    # Each pair is encoded as one number, with the same order as the pairs.
    agreed = np.intersect1d(forward[0] * count1 + forward[1], backward[1] * count1 + backward[0])
    return np.stack([agreed // count1, agreed % count1])


def _one_way(descriptors0: Tensor, descriptors1: Tensor, rt: float, size: int) -> np.ndarray:
    """Return (2, K) int64 indices of the nearest neighbour of each descriptor in each chunk.

    If the last chunk has a single descriptor, there is no second nearest neighbour and no match;
    the release then skips the pair.
    """
    found = []
    for start in range(0, descriptors1.shape[1], size):
        chunk = descriptors1[:, start : start + size]
        if chunk.shape[1] < 2:
            continue
        index, passed = nearest.nearest_of(descriptors0, chunk, rt)
        kept = np.flatnonzero(passed.cpu().numpy())
        found.append(np.stack([kept, index.cpu().numpy()[kept] + start]))
    return np.concatenate(found, axis=1)


def _as_u16(matches: np.ndarray, path: Path) -> np.ndarray:
    if matches.size and matches.max() > np.iinfo(np.uint16).max:
        raise DiskHlocError(
            f"{path}: the index {matches.max()} does not fit in uint16: leave out --u16"
        )
    return matches.astype(np.uint16)
