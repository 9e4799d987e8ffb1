"""What others' HDF5 files hold, read with suspicion.

A file may be cut, or hold groups where arrays are expected; a link in it may lead to any file of
the machine, an array may lie in other files (external storage, virtual data sets) or claim a size
that no memory holds, and a group may lie within itself. All of that is a DiskHlocError here. Links
other than plain ones are not followed: no program that this project knows writes any.
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

# Of one array: 2^31 bytes are the descriptors of eight million keypoints.
MAX_BYTES = 1 << 31
# What h5py raises of broken files, as the part that is broken has it.
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
    """What h5py raises of a broken file becomes a DiskHlocError that names it."""
    try:
        yield
    except _BROKEN as error:
        reason = " ".join(str(error).split())
        raise DiskHlocError(
            f"{_filename(group)} is broken ({reason}): remove it, or give another file"
        ) from error


def members(group: h5py.Group) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """The groups and arrays of a group by their names; others, as stored types, are passed over.

    Raises:
        DiskHlocError: the file is broken, or a link leads elsewhere.
    """
    with clear_errors(group):
        # h5py gives what is not UTF-8 as bytes.
        names = [_decoded(name) if isinstance(name, bytes) else name for name in group]
    for name in names:
        found = find(group, name)
        if isinstance(found, (h5py.Group, h5py.Dataset)):
            yield name, found


def find(group: h5py.Group, path: str) -> h5py.Group | h5py.Dataset | None:
    """What is at a path below a group; None if nothing is.

    Raises:
        DiskHlocError: the file is broken, or a link on the way leads elsewhere.
    """
    with clear_errors(group):
        names = [name for name in path.split("/") if name not in ("", ".")]
        parts = [name.encode("utf-8", "surrogateescape") for name in names]
        # What leads to a part has been looked at before it is followed to the next.
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


def names_with(group: h5py.Group, key: str, *others: str) -> Iterator[str]:
    """The names of the images, which may have folders, whose group has an array ``key``.

    Args:
        group: a file.
        key: of the array that makes a group an image's.
        others: what an image's group must have besides, to be named.

    Raises:
        DiskHlocError: the file is broken, a link leads elsewhere, or a group lies within itself.
    """
    filename = _filename(group)
    with clear_errors(group):
        above = (h5py.h5o.get_info(group.id).addr,)
        found = _names_with(group.id, key.encode(), others, b"", above, filename)
        for name, has_others in tqdm(found, desc=f"List {filename}", unit="name", delay=2):
            if has_others:
                yield name


# By h5py's lower level: its objects of groups take twice the time, of a hundred thousand images.
def _names_with(
    group: h5py.h5g.GroupID,
    key: bytes,
    others: Sequence[str],
    prefix: bytes,
    above: tuple[int, ...],
    filename: str,
) -> Iterator[tuple[str, bool]]:
    for name in group:
        shown = prefix + name
        _require_plain(group, name, shown, filename)
        info = h5py.h5o.get_info(group, name)
        if info.type != h5py.h5o.TYPE_GROUP:
            continue
        if info.addr in above:
            raise DiskHlocError(f"{filename}, {_decoded(shown)}: a group within itself")
        item = h5py.h5g.open(group, name)
        # A folder of images may be called as the dataset is.
        if _has_array(item, key, shown, filename):
            yield _name(shown, filename), all(item.links.exists(k.encode()) for k in others)
        else:
            inner = (*above, info.addr)
            yield from _names_with(item, key, others, shown + b"/", inner, filename)


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
        f"{filename}, {shown}: a link, which may lead to another file and is not followed: give a "
        "file that holds the data itself"
    )


def _name(name: bytes, filename: str) -> str:
    return require_relative(_decoded(name), filename)


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def read(
    group: h5py.Group, path: str, shape: Sequence[int | None], kinds: str = "fiu"
) -> np.ndarray:
    """An array of numbers.

    Args:
        group: a file, or a group in it.
        path: of the array below it.
        shape: what is asked for; None is any length.
        kinds: of types that will do, as numpy's ``dtype.kind``.

    Raises:
        DiskHlocError: there is none, or not of that shape or type; it is not finite, lies in other
            files, or the file is broken.
    """
    dataset = find(group, path)
    if not isinstance(dataset, h5py.Dataset):
        what = "a group" if isinstance(dataset, h5py.Group) else "missing"
        raise DiskHlocError(f"{_where(group, path)}: {what}, but an array is needed")
    require_array(dataset, shape, kinds)
    values = read_values(dataset)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DiskHlocError(f"{_where(group, path)}: a value is not finite; make it anew")
    # Of this machine's order of bytes, which is all that torch takes.
    native: np.ndarray = values.astype(values.dtype.newbyteorder("="), copy=False)
    return native


def require_array(dataset: h5py.Dataset, shape: Sequence[int | None], kinds: str = "fiu") -> None:
    """Check the shape and the type of an array, as :func:`read` takes them.

    Raises:
        DiskHlocError: they are others.
    """
    with clear_errors(dataset):
        found, dtype = dataset.shape, dataset.dtype
    matches = found is not None and len(found) == len(shape)
    if not matches or any(
        want is not None and want != have for want, have in zip(shape, found, strict=True)
    ):
        wanted = ", ".join("N" if length is None else str(length) for length in shape)
        raise DiskHlocError(
            f"{_where(dataset, '')}: an array of shape {found}, but ({wanted}) is needed"
        )
    if dtype.kind not in kinds:
        raise DiskHlocError(f"{_where(dataset, '')}: {dtype}, but {_KINDS[kinds]} are needed")


_KINDS = {"fiu": "numbers", "iu": "integers", "f": "floats"}


def read_values(dataset: h5py.Dataset) -> Any:
    """All of an array, whatever is in it.

    Raises:
        DiskHlocError: it lies in other files, is too large, or is broken.
    """
    with clear_errors(dataset):
        made = dataset.id.get_create_plist()
        if made.get_external_count() or made.get_layout() == h5py.h5d.VIRTUAL:
            raise DiskHlocError(
                f"{_where(dataset, '')}: the array lies in other files, which are not read"
            )
        # Of an array that was never written, which takes no room in the file.
        if dataset.size is not None and dataset.size * dataset.dtype.itemsize > MAX_BYTES:
            raise DiskHlocError(
                f"{_where(dataset, '')}: an array of {dataset.shape} is too large to be true"
            )
        return dataset[()]


def arrays_of(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    """The arrays of a group by their names.

    Raises:
        DiskHlocError: it has groups too, or as :func:`members`.
    """
    for name, item in members(group):
        if not isinstance(item, h5py.Dataset):
            raise DiskHlocError(f"{_where(group, name)}: a group, but an array is needed")
        yield name, item


def attribute(item: h5py.Group | h5py.Dataset, name: str, default: Any = None) -> Any:
    """An attribute; ``default`` if there is none.

    Raises:
        DiskHlocError: it cannot be read.
    """
    with clear_errors(item):
        return item.attrs.get(name, default)


def attributes(item: h5py.Group | h5py.Dataset) -> dict[str, Any]:
    """All attributes.

    Raises:
        DiskHlocError: one cannot be read.
    """
    with clear_errors(item):
        return dict(item.attrs)


def number_attribute(item: h5py.Group | h5py.Dataset, name: str, default: float) -> float:
    """An attribute that is a positive number; ``default`` if there is none.

    Raises:
        DiskHlocError: it is something else.
    """
    value = attribute(item, name, default)
    if np.ndim(value) or not np.issubdtype(np.asarray(value).dtype, np.number):
        raise DiskHlocError(f"{_where(item, '')}: its attribute {name} is no number")
    if not (np.isfinite(value) and np.real(value) > 0):
        raise DiskHlocError(f"{_where(item, '')}: its attribute {name} is {value}")
    return float(np.real(value))


def text_attribute(item: h5py.Group | h5py.Dataset, name: str) -> str | None:
    """An attribute that is a text; None if there is none.

    Raises:
        DiskHlocError: it is something else.
    """
    value = attribute(item, name)
    if value is not None and not isinstance(value, str):
        raise DiskHlocError(f"{_where(item, '')}: its attribute {name} is no text")
    return value


def _where(item: h5py.Group | h5py.Dataset, path: str) -> str:
    return f"{_filename(item)}, {_shown(item, path)}"


def _filename(item: h5py.HLObject) -> str:
    return str(item.file.filename)


def _shown(item: h5py.Group | h5py.Dataset, path: str) -> str:
    return "/".join(part for part in ((item.name or "").strip("/"), path) if part)
