"""Read HDF5 files that are not trusted.

A file may be truncated, or hold groups where arrays are expected. A link in it may point to any
file on the machine, an array may be stored in other files (external storage, virtual data sets) or
claim a size that does not fit in memory, and a group may contain itself. All of these raise a
DiskHlocError here. Only hard links are followed: no program that this project knows writes others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.names import require_relative

from .fingerprints import Fingerprint, parse
from .fingerprints import read as read_fingerprint

# The largest array that is read: 2^31 bytes are the descriptors of eight million keypoints.
MAX_BYTES = 1 << 31
# What h5py raises for broken files, depending on the part that is broken.
_BROKEN = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@contextmanager
def clear_errors(group: h5py.HLObject) -> Iterator[None]:
    """Turn the errors that h5py raises for a broken file into a DiskHlocError that names it."""
    try:
        yield
    except _BROKEN as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(
            f"{_filename(group)} is broken ({reason}): make it again or use another file"
        ) from error


def members(group: h5py.Group) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Yield the name and the object of each group and array in a group, and skip other objects.

    Raises:
        DiskHlocError: the file is broken, or one of its links is not a hard link.
    """
    with clear_errors(group):
        # h5py returns names that are not UTF-8 as bytes.
        names = [_decoded(name) if isinstance(name, bytes) else name for name in group]
    for name in names:
        found = find(group, name)
        if isinstance(found, (h5py.Group, h5py.Dataset)):
            yield name, found


def find(group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset | None:
    """Return the group or array at a path below a group, or None if nothing is stored there.

    Raises:
        DiskHlocError: the file is broken, or a link on the path is not a hard link.
    """
    with clear_errors(group):
        names = [name for name in path.split("/") if name not in ("", ".")]
        parts = [name.encode("utf-8", "surrogateescape") for name in names]
        # Each link is checked before it is followed.
        for count in range(1, len(parts) + 1):
            here = b"/".join(parts[:count])
            if count > 1 and h5py.h5o.get_info(group.id, b"/".join(parts[: count - 1])).type != (
                h5py.h5o.TYPE_GROUP
            ):
                return None
            if not group.id.links.exists(here):
                return None
            if group.id.links.get_info(here).type != h5py.h5l.TYPE_HARD:
                raise _link(_filename(group), _shown(group, _decoded(here)))
        return group[b"/".join(parts)] if parts else group


def has(group: h5py.Group, path: str, *keys: str) -> bool:
    """Return whether there is a group at a path, and in it all ``keys``.

    Raises:
        DiskHlocError: the file is broken, or a link on the way leads elsewhere.
    """
    filename = _filename(group)
    with clear_errors(group):
        here = group.id
        names = [name for name in path.split("/") if name not in ("", ".")]
        for i, name in enumerate([*names, *keys]):
            part = name.encode("utf-8", "surrogateescape")
            if not here.links.exists(part):
                return False
            _require_plain(here, part, "/".join(names[: i + 1]).encode(), filename)
            if i < len(names):
                if h5py.h5o.get_info(here, part).type != h5py.h5o.TYPE_GROUP:
                    return False
                here = h5py.h5g.open(here, part)
    return True


def names_with(group: h5py.Group, key: str, *others: str) -> Iterator[str]:
    """Yield the names of the images, whose groups have an array ``key``; a name may have folders.

    Args:
        group: an open file.
        key: name of the array that marks a group as that of an image.
        others: further arrays; images without them are skipped.

    Raises:
        DiskHlocError: the file is broken, a link is not a hard link, or a group contains itself.
    """
    for name, _ in entries_with(group, key, *others):
        yield name


def entries_with(
    group: h5py.Group, key: str, *others: str
) -> Iterator[tuple[str, Fingerprint | None]]:
    """Yield the names of :func:`names_with`, each with its fingerprint if it has one."""
    filename = _filename(group)
    with clear_errors(group):
        above = (h5py.h5o.get_info(group.id).addr,)
        wanted = [other.encode() for other in others]
        found = _entries_with(group.id, key.encode(), wanted, b"", above, filename)
        for name, made_of in tqdm(found, desc=f"List {filename}", unit="name", delay=2):
            if name is not None:
                yield name, parse(made_of)


# With h5py's low-level API: for a hundred thousand images, its Group objects take twice the time.
def _entries_with(
    group: h5py.h5g.GroupID,
    key: bytes,
    others: Sequence[bytes],
    prefix: bytes,
    above: tuple[int, ...],
    filename: str,
) -> Iterator[tuple[str | None, str | None]]:
    """Yield name and fingerprint of each image, None and None for one without ``others``."""
    for name in group:
        shown = prefix + name
        _require_plain(group, name, shown, filename)
        item = h5py.h5o.open(group, name)
        if not isinstance(item, h5py.h5g.GroupID):
            continue
        exists = item.links.exists
        # A folder of images may have the same name as the dataset.
        made_of = read_fingerprint(item) if exists(key) else None
        if made_of is not None or _has_array(item, key, shown, filename):
            if all(exists(other) for other in others):
                yield _name(shown, filename), made_of
            else:
                yield None, None
        else:
            address = h5py.h5o.get_info(item).addr
            if address in above:
                raise DiskHlocError(f"{filename}, {_decoded(shown)}: this group contains itself")
            inner = (*above, address)
            yield from _entries_with(item, key, others, shown + b"/", inner, filename)


def _has_array(group: h5py.h5g.GroupID, key: bytes, shown: bytes, filename: str) -> bool:
    if not group.links.exists(key):
        return False
    _require_plain(group, key, shown + b"/" + key, filename)
    return bool(h5py.h5o.get_info(group, key).type == h5py.h5o.TYPE_DATASET)


def _require_plain(group: h5py.h5g.GroupID, name: bytes, shown: bytes, filename: str) -> None:
    if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
        raise _link(filename, _decoded(shown))


def _link(filename: str, shown: str) -> DiskHlocError:
    return DiskHlocError(
        f"{filename}, {shown}: this is a link, which may point to another file and is not "
        "followed: use a file that holds the data itself"
    )


def _name(name: bytes, filename: str) -> str:
    return require_relative(_decoded(name), filename)


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def read(
    group: h5py.Group, path: str, shape: Sequence[int | None], kinds: str = "fiu"
) -> np.ndarray:
    """Read an array of numbers.

    Args:
        group: a file, or a group in it.
        path: path of the array below ``group``.
        shape: the expected shape; None stands for any length.
        kinds: the accepted values of numpy's ``dtype.kind``.

    Returns:
        The array in the native byte order.

    Raises:
        DiskHlocError: the array is missing, has another shape or type, has a value that is not
            finite, or is stored in other files; or the file is broken.
    """
    dataset = find(group, path)
    if not isinstance(dataset, h5py.Dataset):
        what = "a group" if isinstance(dataset, h5py.Group) else "missing"
        raise DiskHlocError(f"{_where(group, path)}: expected an array, but it is {what}")
    require_array(dataset, shape, kinds)
    values = read_values(dataset)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DiskHlocError(f"{_where(group, path)}: a value is not finite; compute it again")
    # torch takes only the native byte order.
    native: np.ndarray = values.astype(values.dtype.newbyteorder("="), copy=False)
    return native


def require_array(dataset: h5py.Dataset, shape: Sequence[int | None], kinds: str = "fiu") -> None:
    """Check the shape and the type of an array; the arguments are those of :func:`read`.

    Raises:
        DiskHlocError: the array has another shape or type.
    """
    with clear_errors(dataset):
        found, dtype = dataset.shape, dataset.dtype
    matches = found is not None and len(found) == len(shape)
    if not matches or any(
        want is not None and want != have for want, have in zip(shape, found, strict=True)
    ):
        wanted = ", ".join("N" if length is None else str(length) for length in shape)
        raise DiskHlocError(
            f"{_where(dataset, '')}: expected an array of shape ({wanted}), found {found}"
        )
    if dtype.kind not in kinds:
        raise DiskHlocError(f"{_where(dataset, '')}: expected {_KINDS[kinds]}, found {dtype}")


_KINDS = {"fiu": "numbers", "iu": "integers", "f": "floats"}


def read_values(dataset: h5py.Dataset) -> Any:
    """Read a whole array of any shape and type.

    Raises:
        DiskHlocError: the array is stored in other files, is too large, or is broken.
    """
    with clear_errors(dataset):
        made = dataset.id.get_create_plist()
        if made.get_external_count() or made.get_layout() == h5py.h5d.VIRTUAL:
            raise DiskHlocError(
                f"{_where(dataset, '')}: the array is stored in other files, which are not read"
            )
        # An array that was never written takes no space in the file, whatever its size.
        if dataset.size is not None and dataset.size * dataset.dtype.itemsize > MAX_BYTES:
            raise DiskHlocError(
                f"{_where(dataset, '')}: an array of shape {dataset.shape} is too large to read"
            )
        return dataset[()]


def arrays_of(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield the name and the dataset of each array in a group.

    Raises:
        DiskHlocError: the group contains a group; see also :func:`members`.
    """
    for name, item in members(group):
        if not isinstance(item, h5py.Dataset):
            raise DiskHlocError(f"{_where(group, name)}: expected an array, but it is a group")
        yield name, item


def attribute(item: h5py.Group | h5py.Dataset, name: str, default: Any = None) -> Any:
    """Read an attribute; return ``default`` if it is missing.

    Raises:
        DiskHlocError: the attribute cannot be read.
    """
    with clear_errors(item):
        return item.attrs.get(name, default)


def attributes(item: h5py.Group | h5py.Dataset) -> dict[str, Any]:
    """Read all attributes.

    Raises:
        DiskHlocError: an attribute cannot be read.
    """
    with clear_errors(item):
        return dict(item.attrs)


def number_attribute(item: h5py.Group | h5py.Dataset, name: str, default: float) -> float:
    """Read an attribute that is a positive number; return ``default`` if it is missing.

    Raises:
        DiskHlocError: the attribute is not a finite positive number.
    """
    value = attribute(item, name, default)
    if np.ndim(value) or not np.issubdtype(np.asarray(value).dtype, np.number):
        raise DiskHlocError(f"{_where(item, '')}: its attribute {name} is not a number")
    if not (np.isfinite(value) and np.real(value) > 0):
        raise DiskHlocError(
            f"{_where(item, '')}: its attribute {name} must be positive, found {value}"
        )
    return float(np.real(value))


def text_attribute(item: h5py.Group | h5py.Dataset, name: str) -> str | None:
    """Read an attribute that is a string; return None if it is missing.

    Raises:
        DiskHlocError: the attribute is not a string.
    """
    value = attribute(item, name)
    if value is not None and not isinstance(value, str):
        raise DiskHlocError(f"{_where(item, '')}: its attribute {name} is not a string")
    return value


def _where(item: h5py.Group | h5py.Dataset, path: str) -> str:
    return f"{_filename(item)}, {_shown(item, path)}"


def _filename(item: h5py.HLObject) -> str:
    return str(item.file.filename)


def _shown(item: h5py.Group | h5py.Dataset, path: str) -> str:
    return "/".join(part for part in ((item.name or "").strip("/"), path) if part)
