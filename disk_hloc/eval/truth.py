"""Known surfaces of a scene, which the points of a model are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.benchmarks.eth3d import read_scans
from disk_hloc.io.ply import MESH, read_ply
from disk_hloc.io.training.depth_clouds import read_depth_cloud, read_views

from .clouds import BLOCK, blocks, nearest
from .surface import Surface

# Of a mesh, as of the largest scans.
_MAX_SAMPLES = 10_000_000


@dataclass(frozen=True)
class Truth:
    """Known surfaces: points on them, triangles, or both.

    Attributes:
        cloud: (N, 3) points of scans and depth maps; (0, 3) without any.
        surface: the triangles of meshes; None without any.
        kinds: what was read: ``scan``, ``mesh``, ``depth maps``.
    """

    cloud: np.ndarray
    surface: Surface | None
    kinds: list[str]

    def distances(self, points: np.ndarray) -> np.ndarray:
        """Return how far (N, 3) points are from the surfaces, (N,) float64.

        That is the distance to the nearest point of a scan, and exact for triangles.
        """
        found = np.full(len(points), np.inf)
        if len(self.cloud):
            found = nearest(points, self.cloud, "Accuracy")
        if self.surface is not None:
            np.minimum(found, self.surface.distances(points), out=found)
        return found

    def samples(self, spacing: float) -> Iterator[np.ndarray]:
        """Yield points on all surfaces in blocks of (B, 3): of scans their own.

        Args:
            spacing: triangles get a point for each square of this side, or are covered by fewer
                points so that there are at most 10 million.
        """
        yield from blocks(self.cloud)
        if self.surface is not None:
            least = np.sqrt(self.surface.areas().sum() / _MAX_SAMPLES)
            yield from self.surface.samples(max(spacing, float(least)), BLOCK)


def read_truth(paths: Sequence[Path], reference: Path | None = None) -> Truth:
    """Read known surfaces.

    Args:
        paths: each a PLY file (a mesh if it has faces, else a scan), ETH3D's
            ``scan_alignment.mlp``, the folder of a drawn scene (with ``mesh.ply``), or a folder of
            depth maps.
        reference: cameras and poses of the depth maps
            (:func:`disk_hloc.io.training.depth_clouds.read_views`).

    Raises:
        DiskHlocError: a file is missing or broken, nothing is given, or depth maps are given
            without a reference.
    """
    clouds: list[np.ndarray] = []
    corners: list[np.ndarray] = []
    kinds: list[str] = []
    for path in paths:
        if path.is_dir() and not (path / MESH).is_file():
            if reference is None:
                raise DiskHlocError(
                    f"{path} is a folder without {MESH}: if it has depth maps, give their cameras "
                    "and poses with --depth-cameras"
                )
            clouds.append(read_depth_cloud(path, read_views(reference)))
            kinds.append("depth maps")
            continue
        for file, matrix in _files(path):
            read = read_ply(file)
            points = read.points
            if matrix is not None:
                points = (points @ matrix[:3, :3].T + matrix[:3, 3]).astype(points.dtype)
            if len(read.triangles):
                corners.append(points[read.triangles].reshape(-1, 3))
            else:
                clouds.append(points)
            kinds.append("mesh" if len(read.triangles) else "scan")
    if not kinds:
        raise DiskHlocError("there is nothing to compare with: give --truth")
    surface = None
    if corners:
        joined = np.concatenate(corners)
        surface = Surface(joined, np.arange(len(joined)).reshape(-1, 3))
    cloud = np.concatenate(clouds) if clouds else np.empty((0, 3), np.float32)
    return Truth(cloud, surface, list(dict.fromkeys(kinds)))


def _files(path: Path) -> list[tuple[Path, np.ndarray | None]]:
    """Return PLY files, each with its (4, 4) ``world_from_file`` or None."""
    if path.is_dir():
        return [(path / MESH, None)]
    if path.suffix == ".mlp":
        return [(file, matrix) for file, matrix in read_scans(path)]
    return [(path, None)]
