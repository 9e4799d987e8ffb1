"""Read the photographs for textures, which are part of scikit-image's wheel."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from disk_hloc.errors import DiskHlocError

Image = NDArray[np.uint8]


@cache
def photo(name: str) -> Image:
    """Read a photograph of scikit-image by file name, such as "chelsea.png".

    The file is read directly, since scikit-image's own loaders may use the network.

    Returns:
        (H, W, 3) uint8 RGB, a shared and read-only array.

    Raises:
        DiskHlocError: scikit-image or the file is missing.
    """
    try:
        import skimage
    except ImportError as error:
        raise DiskHlocError(
            'the synthetic scene needs scikit-image: pip install "disk_hloc[demo]"'
        ) from error
    path = Path(skimage.__file__).parent / "data" / name
    if not path.is_file():
        raise DiskHlocError(
            f"this version of scikit-image does not include the photograph {name}: "
            'pip install --upgrade "disk_hloc[demo]"'
        )
    with PIL.Image.open(path) as image:
        rgb = np.array(image.convert("RGB"), dtype=np.uint8)
    rgb.flags.writeable = False
    return rgb
