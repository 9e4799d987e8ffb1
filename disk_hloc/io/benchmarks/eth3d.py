"""The laser scans of ETH3D: PLY files, and where each scanner stood.

Schöps et al., "A multi-view stereo benchmark with high-resolution images and multi-camera videos",
CVPR 2017. ``scan_alignment.mlp`` is a project of MeshLab: the scans' file names, each with the
matrix that takes it to the frame of the benchmark's poses, in metres.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.text import read_text


def read_scans(path: Path) -> list[tuple[Path, np.ndarray]]:
    """Read the names and poses of the scans of a project.

    Args:
        path: a ``.mlp`` file.

    Returns:
        For each scan its file and (4, 4) float64 ``world_from_scan``.

    Raises:
        DiskHlocError: the file cannot be read, has no scan, or a matrix is not a rigid motion.
    """
    text = read_text(path, "the scans")
    if "<!ENTITY" in text:
        raise DiskHlocError(f"{path} declares entities, which no project of MeshLab does")
    try:
        meshes = ElementTree.fromstring(text).findall(".//MLMesh")
    except (ElementTree.ParseError, ValueError) as error:
        raise DiskHlocError(f"{path} is not a project of MeshLab: {error}") from error
    scans = []
    for mesh in meshes:
        words = (mesh.findtext("MLMatrix44") or "").split()
        try:
            matrix = np.array(words, np.float64).reshape(4, 4)
        except ValueError:
            matrix = np.zeros((4, 4))
        rotation = matrix[:3, :3]
        if not (
            np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)
            and np.isfinite(matrix).all()
            and np.array_equal(matrix[3], [0, 0, 0, 1])
        ):
            raise DiskHlocError(
                f"{path}: the matrix of {mesh.get('filename')} is not a rotation and a shift"
            )
        scans.append((path.parent / (mesh.get("filename") or ""), matrix))
    if not scans:
        raise DiskHlocError(f"{path} has no scan")
    return scans
