"""Unpack archives that are not trusted, so that no file is written outside the folder."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from disk_hloc.errors import DiskHlocError

from .fetch import Stopped


def unpack(archive: Path, folder: Path, strip: int = 0) -> list[str]:
    """Unpack a tar archive, compressed or not, into a folder.

    The archive may only have files and folders. They replace existing ones of the same name once
    the whole archive is unpacked.

    Args:
        archive: the archive.
        folder: the folder to unpack to, which is created.
        strip: number of leading folders to remove from each name, like tar's
            ``--strip-components``.

    Returns:
        The sorted names of the unpacked files and folders at the top of ``folder``.

    Raises:
        DiskHlocError: the archive is broken, is empty below ``strip`` folders, or has a link, a
            device or a name that points outside the folder.
        Stopped: the disk is full.
    """
    partial = folder / f".{archive.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with tarfile.open(archive, "r:*") as file:
            for member in tqdm(file, desc=f"Unpack {archive.name}", unit="file", leave=False):
                _extract(file, member, partial, strip, archive)
        names = sorted(path.name for path in partial.iterdir())
        if not names:
            raise DiskHlocError(
                f"{archive} is empty below {strip} folders: it is not the expected archive"
            )
        for name in names:
            target = folder / name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            (partial / name).replace(target)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DiskHlocError(
            f"{archive} is not a whole tar archive ({error}): remove it and run the command again"
        ) from error
    except OSError as error:
        raise Stopped(f"cannot unpack {archive}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return names


def _extract(
    file: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, strip: int, archive: Path
) -> None:
    """Extract one member to ``folder``."""
    if ".." in PurePosixPath(member.name).parts:
        raise DiskHlocError(f"{archive} has {member.name!r}, which is outside its folder")
    if not (member.isreg() or member.isdir()):
        raise DiskHlocError(f"{archive} has {member.name!r}, which is neither a file nor a folder")
    # tar counts a leading dot as a folder, and ignores a leading slash.
    parts = [part for part in member.name.split("/") if part][strip:]
    if not parts:
        return
    target = folder.joinpath(*parts)
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    source = file.extractfile(member)
    assert source is not None  # a regular file
    with source, target.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
