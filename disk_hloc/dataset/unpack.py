"""Archives of others, unpacked so that nothing lands outside its folder."""

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

    Only files and folders are taken. What comes out replaces what is there of the same name, and
    only when all of it has come out.

    Args:
        archive: the file.
        folder: is created.
        strip: so many leading folders of each name are left out, as by tar's
            ``--strip-components``.

    Returns:
        The names of what now is in ``folder`` itself, sorted.

    Raises:
        DiskHlocError: the archive is broken, holds nothing below ``strip`` folders, or a link, a
            device or a name that leads out of its folder.
        Stopped: the disk takes no more.
    """
    partial = folder / f".{archive.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with tarfile.open(archive, "r:*") as file:
            for member in tqdm(file, desc=f"Unpack {archive.name}", unit="file", leave=False):
                _take(file, member, partial, strip, archive)
        names = sorted(path.name for path in partial.iterdir())
        if not names:
            raise DiskHlocError(
                f"{archive} holds nothing below {strip} folders: it is not the archive expected"
            )
        for name in names:
            target = folder / name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            (partial / name).replace(target)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DiskHlocError(
            f"{archive} is no whole tar archive ({error}): remove it, and run the command again"
        ) from error
    except OSError as error:
        raise Stopped(f"cannot unpack {archive}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return names


def _take(
    file: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, strip: int, archive: Path
) -> None:
    """Take one member out, below ``folder``."""
    if ".." in PurePosixPath(member.name).parts:
        raise DiskHlocError(f"{archive} holds {member.name!r}, which leads out of its folder")
    if not (member.isreg() or member.isdir()):
        raise DiskHlocError(f"{archive} holds {member.name!r}, which is no file and no folder")
    # tar counts a leading point as a folder, and passes a leading slash over.
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
