"""Extraction and matching in shards, by many processes or machines at once.

The images, or blocks of pairs that share images, are cut into shards. Each is a task of Dask that
runs the stage itself into a file of its own, in ``<output>.shards/`` beside the output, and at the
end the files are joined into what one run would have made. A shard's file is crash-safe and
resumable as any other (:mod:`disk_hloc.io.store.store`): when a worker is lost, another goes on
where it
was, and what is finished is never done again, by this run or by the next. docs/clusters.md tells
more.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import queue
import shutil
import socket
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from disk_hloc import models
from disk_hloc.errors import Busy, DiskHlocError, require_on_error
from disk_hloc.io.hloc.matches import unmatched
from disk_hloc.io.hloc.pairs import Pair, nearby_order
from disk_hloc.io.replace import replace_text
from disk_hloc.io.store import Store, conf_text, join, reading, writing
from disk_hloc.io.store.hdf5 import names_with
from disk_hloc.log import logger
from disk_hloc.stages import extract as extraction
from disk_hloc.stages import match as matching

from . import workers as cluster

if TYPE_CHECKING:
    from distributed import Client, Future

# A shard is small enough that the last ones to end keep few workers waiting, and large enough that
# what its start costs is little: the weights, and on a GPU the first batch.
SHARDS_A_WORKER = 8
MOST_IMAGES = 64
MOST_PAIRS = 512
# After which a shard is tried again that another worker still writes, one deemed lost.
BUSY_SECONDS = 5.0
# After which a run ends that has lost all its workers, where no new ones come.
WITHOUT_WORKERS_SECONDS = 300.0
# For a network file system to show here what a worker has written.
VISIBLE_SECONDS = 120.0
_POLL_SECONDS = 1.0


def extract(
    conf: Mapping[str, Any],
    image_dir: Path,
    feature_path: Path,
    *,
    dask: str | None = None,
    image_list: Path | None = None,
    masks: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    on_error: str = "skip",
    device: str = "auto",
) -> Path:
    """Extract features as :func:`disk_hloc.stages.extract.main`, by the workers of Dask.

    Args:
        dask: see :func:`disk_hloc.parallel.workers.connected`; None is one process, this.
        conf, image_dir, feature_path, image_list, masks, overwrite, on_error, device: the stage's.

    Returns:
        ``feature_path``, to the bit what one process on such a device makes.

    Raises:
        UnreadableImages: some images could not be read; all others are in the file.
        DiskHlocError: as the stage, :func:`disk_hloc.parallel.workers.connected`, or
            :func:`_compute`.
    """
    if dask is None or not _is_ours(conf, "extractors"):
        return extraction.main(
            conf,
            image_dir,
            feature_path,
            image_list=image_list,
            masks=masks,
            overwrite=overwrite,
            on_error=on_error,
            device=device,
        )
    require_on_error(on_error)
    names = extraction.chosen_images(image_dir, image_list)
    work = _Work(
        feature_path,
        extraction.made_with(conf, masks),
        _extract_shard,
        {"conf": conf, "image_dir": image_dir.absolute(), "masks": masks, "on_error": on_error},
        key="keypoints",
        unit="image",
        most=MOST_IMAGES,
        lacking=_not_in,
        order=lambda names, _: list(names),
    )
    extracted = extraction.Extracted()
    reasons: dict[str, str] = {}
    for part in _make(work, names, dask, overwrite=overwrite, device=device):
        extracted.count += part.count
        extracted.unmasked |= part.unmasked
        reasons |= part.unreadable
    extracted.unreadable = {name: reasons[name] for name in names if name in reasons}
    extraction.report(extracted, names, image_dir, feature_path)
    return feature_path


def match(
    conf: Mapping[str, Any],
    pairs_path: Path,
    feature_path: Path,
    match_path: Path,
    *,
    dask: str | None = None,
    reference_path: Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> Path:
    """Match pairs as :func:`disk_hloc.stages.match.main`, by the workers of Dask.

    Args:
        dask: see :func:`disk_hloc.parallel.workers.connected`; None is one process, this.
        conf, pairs_path, feature_path, match_path, reference_path, overwrite, device: the stage's.

    Returns:
        ``match_path``, to the bit what one process on such a device makes.

    Raises:
        DiskHlocError: as the stage, :func:`disk_hloc.parallel.workers.connected`, or
            :func:`_compute`.
    """
    if dask is None or not _is_ours(conf, "matchers"):
        return matching.main(
            conf,
            pairs_path,
            feature_path,
            match_path,
            reference_path=reference_path,
            overwrite=overwrite,
            device=device,
        )
    pairs = matching.checked_pairs(pairs_path, feature_path, reference_path)
    work = _Work(
        match_path,
        matching.made_with(conf),
        _match_shard,
        {
            "conf": conf,
            "feature_path": feature_path.absolute(),
            "reference_path": reference_path and reference_path.absolute(),
        },
        key="matches0",
        unit="pair",
        most=MOST_PAIRS,
        lacking=_not_matched,
        order=in_blocks,
    )
    _make(work, [" ".join(pair) for pair in pairs], dask, overwrite=overwrite, device=device)
    return match_path


def in_blocks(lines: Sequence[str], size: int) -> list[str]:
    """Lines of a pairs file in an order in which every ``size`` successive ones share images."""
    pairs = nearby_order(map(_pair, lines), 2 * math.isqrt(size))
    return [" ".join(pair) for pair in pairs]


@dataclass(frozen=True)
class _Work:
    """What makes a file.

    Attributes:
        path: the file.
        made_with: what it depends on.
        task: makes a shard; it takes the shard's list, the driver's folder, ``arguments`` and a
            device.
        arguments: that can be sent to a worker.
        key: a dataset that each entry has.
        unit: what a line of a list is.
        most: of them in a shard.
        lacking: of some lines those that are not among the groups of a file.
        order: puts lines so that those of a shard are together, for a shard's size.
    """

    path: Path
    made_with: Mapping[str, Any]
    task: Callable[..., Any]
    arguments: Mapping[str, Any]
    key: str
    unit: str
    most: int
    lacking: Callable[[Sequence[str], Container[str]], list[str]]
    order: Callable[[Sequence[str], int], list[str]]

    @property
    def folder(self) -> Path:
        """Where the shards are."""
        return self.path.absolute().with_name(f"{self.path.name}.shards")


@dataclass(frozen=True)
class _Shard:
    """A list of images or pairs, and the file that is made of it beside it."""

    listed: Path
    lines: list[str]

    @property
    def file(self) -> Path:
        return self.listed.with_suffix(".h5")


def _make(
    work: _Work, lines: Sequence[str], dask: str, *, overwrite: bool, device: str
) -> list[Any]:
    """Make a file of what it lacks of ``lines``. Returns what the tasks returned."""
    cluster.check(dask)
    if overwrite:
        shutil.rmtree(work.folder, ignore_errors=True)
    anew = _is_anew(work, overwrite)
    finished: list[_Shard] = []
    results = []
    with _holding(work.path, work.made_with, anew) as store:
        present = store.done(work.key)
        missing = work.lacking(lines, present)
        if len(missing) < len(lines):
            logger.info(
                "%d of %d %ss are done already", len(lines) - len(missing), len(lines), work.unit
            )
        if missing:
            finished, unfinished, uncut = _former(work, missing)
            if unfinished or uncut:
                _note(work, anew)
                with _left_if_used(work.folder), cluster.connected(dask, device) as client:
                    device, resources = cluster.agreed_device(client, device)
                    shards = unfinished + _cut(work, uncut, cluster.num_workers(client, dask))
                    logger.info(
                        "%d %ss in %d shards, and %d finished before; %d workers, on %s",
                        sum(len(shard.lines) for shard in shards), work.unit, len(shards),
                        len(finished), len(client.nthreads()), device,
                    )  # fmt: skip
                    results = _compute(client, work, shards, device, resources)
                finished += shards
            for shard in finished:
                _await_visible(shard.file)
    if finished:
        join(work.path, [shard.file for shard in finished], work.key, overwrite=anew)
    elif store.names:
        # They are in the journal of a run in one process that was stopped at its very end.
        with writing(work.path, work.made_with):
            pass
    shutil.rmtree(work.folder, ignore_errors=True)
    return results


class _Left(Exception):
    """Ends the writing of a file without making it."""


@contextmanager
def _holding(path: Path, conf: Mapping[str, Any], overwrite: bool) -> Iterator[Store]:
    """Keep others from writing a file, which is made in another way, and see what it has."""
    with suppress(_Left), writing(path, conf, overwrite=overwrite) as store:
        yield store
        raise _Left


@contextmanager
def _left_if_used(folder: Path) -> Iterator[None]:
    """After an error, leave the folder only if there is work in it."""
    try:
        yield
    except BaseException:
        if not any(folder.glob("*.h5*")):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _is_anew(work: _Work, overwrite: bool) -> bool:
    """Whether the file is made anew, by this run or by the one that left the shards there.

    Raises:
        DiskHlocError: they are of another conf.
    """
    note = work.folder / "run.json"
    if not note.exists():
        return overwrite
    former = json.loads(note.read_text(encoding="utf-8"))
    if former["conf"] != json.loads(conf_text(work.made_with)):
        raise DiskHlocError(
            f"{work.folder} holds the unfinished work of another conf "
            f"({json.dumps(former['conf'], sort_keys=True)}): use --overwrite or another file"
        )
    return bool(former["anew"])


def _note(work: _Work, anew: bool) -> None:
    note = {"conf": json.loads(conf_text(work.made_with)), "anew": anew}
    replace_text(work.folder / "run.json", json.dumps(note))


def _former(work: _Work, missing: Sequence[str]) -> tuple[list[_Shard], list[_Shard], list[str]]:
    """The shards of a run before this: finished ones, unfinished ones, and the lines in neither.

    A shard stays as it was cut, so that its journal fits, whatever else is asked for now.
    """
    finished, unfinished = [], []
    uncut = dict.fromkeys(missing)
    for listed in sorted(work.folder.glob("*.txt")):
        shard = _Shard(listed, _read_lines(listed))
        groups = _groups(shard.file, work.key) if shard.file.exists() else set()
        lacking = work.lacking(shard.lines, groups)
        if lacking and all(line in uncut for line in lacking):
            unfinished.append(shard)
            done = shard.lines
        elif groups:
            # If it lacks any, not all of them are asked for any more; the rest goes elsewhere.
            finished.append(shard)
            done = [line for line in shard.lines if line not in set(lacking)]
        else:
            listed.unlink()
            done = []
        for line in done:
            uncut.pop(line, None)
    return finished, unfinished, list(uncut)


def _cut(work: _Work, lines: list[str], num_workers: int) -> list[_Shard]:
    """Cut what there is to do into shards, and write their lists.

    A list's name derives from what is in it and from the conf.
    """
    size = min(work.most, max(1, math.ceil(len(lines) / (SHARDS_A_WORKER * num_workers))))
    lines = work.order(lines, size)
    shards = []
    for start in range(0, len(lines), size):
        chunk = lines[start : start + size]
        text = "".join(f"{line}\n" for line in chunk)
        digest = hashlib.sha256(f"{conf_text(work.made_with)}\n{text}".encode()).hexdigest()[:16]
        shards.append(_Shard(work.folder / f"{digest}.txt", chunk))
        replace_text(shards[-1].listed, text)
    return shards


def _compute(
    client: Client,
    work: _Work,
    shards: Sequence[_Shard],
    device: str,
    resources: Mapping[str, float],
) -> list[Any]:
    """Have workers make shards. Returns what the tasks returned.

    Raises:
        DiskHlocError: what a task says; a shard of which worker after worker dies; all workers are
            lost, or the scheduler is. Finished shards are kept.
    """
    ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
    running: dict[Any, tuple[Future, _Shard]] = {}
    waiting = [(0.0, shard) for shard in shards]
    results = []
    last_worker = time.monotonic()
    total = sum(len(shard.lines) for shard in shards)
    progress = tqdm(total=total, desc=f"Make {work.path.name}", unit=work.unit)
    try:
        with progress:
            while running or waiting:
                now = time.monotonic()
                for _, shard in [item for item in waiting if item[0] <= now]:
                    future = client.submit(
                        work.task,
                        shard.listed,
                        Path.cwd(),
                        device=device,
                        **work.arguments,
                        pure=False,
                        resources=dict(resources),
                    )
                    running[future.key] = future, shard
                    future.add_done_callback(ended.put)
                waiting = [item for item in waiting if item[0] > now]
                try:
                    future = ended.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    last_worker = _require_workers(client, work, last_worker)
                    continue
                _, shard = running.pop(future.key)
                try:
                    results.append(_result(future, work, shard))
                    progress.update(len(shard.lines))
                except Busy:
                    waiting.append((time.monotonic() + BUSY_SECONDS, shard))
    finally:
        if client.status == "running":
            client.cancel([future for future, _ in running.values()])
    return results


def _result(future: Future, work: _Work, shard: _Shard) -> Any:
    from distributed.scheduler import KilledWorker

    if future.status not in ("finished", "error"):
        raise DiskHlocError(
            f"the Dask scheduler is gone; what is done is kept in {work.folder}: start it, and run "
            "the same command again"
        )
    try:
        return future.result()
    except KilledWorker as error:
        raise DiskHlocError(
            f"worker after worker died as it worked on the {work.unit}s of {shard.listed}: most "
            "likely the memory is too small, so try fewer workers a machine, or a smaller "
            "resize_max, with the same command; what is done is kept"
        ) from error


def _require_workers(client: Client, work: _Work, last_worker: float) -> float:
    """When there was a worker last."""
    now = time.monotonic()
    if client.status != "running" or client.nthreads():
        return now
    if now - last_worker > WITHOUT_WORKERS_SECONDS:
        raise DiskHlocError(
            f"all workers are lost, and none came for {WITHOUT_WORKERS_SECONDS:.0f} seconds; what "
            f"is done is kept in {work.folder}: start workers, and run the same command again"
        )
    return last_worker


def _extract_shard(
    listed: Path,
    folder: Path,
    *,
    conf: Mapping[str, Any],
    image_dir: Path,
    masks: Mapping[str, Any] | None,
    on_error: str,
    device: str,
) -> extraction.Extracted:
    """Extract the images of a list into the file beside it."""
    _enter(listed, folder)
    return extraction.extract_images(
        conf,
        image_dir,
        _read_lines(listed),
        listed.with_suffix(".h5"),
        masks=masks,
        on_error=on_error,
        device=device,
    )


def _match_shard(
    listed: Path,
    folder: Path,
    *,
    conf: Mapping[str, Any],
    feature_path: Path,
    reference_path: Path | None,
    device: str,
) -> None:
    """Match the pairs of a list into the file beside it."""
    _enter(listed, folder)
    matching.main(
        conf,
        listed,
        feature_path,
        listed.with_suffix(".h5"),
        reference_path=reference_path,
        device=device,
    )


def _enter(listed: Path, folder: Path) -> None:
    """Go where the driver is, so that relative paths of weights and masks mean the same.

    Raises:
        DiskHlocError: the worker does not see the driver's files.
    """
    if not listed.is_file():
        raise DiskHlocError(
            f"the worker on {socket.gethostname()} does not see {listed}: photos and outputs must "
            "be in a file system that all machines have, under the same path"
        )
    if folder.is_dir():
        os.chdir(folder)


def _await_visible(path: Path) -> None:
    """Wait for a file that another machine has written."""
    start = time.monotonic()
    while not path.exists():
        if time.monotonic() - start > VISIBLE_SECONDS:
            raise DiskHlocError(
                f"{path}, which a worker has written, is not to be seen here: outputs must be in a "
                "file system that all machines have"
            )
        time.sleep(_POLL_SECONDS)


def _is_ours(conf: Mapping[str, Any], kind: str) -> bool:
    """Whether there are shards for a conf; hloc's own loops write files that cannot be resumed."""
    name = conf["model"]["name"]
    ours = models.has(kind, name)
    if not ours:
        logger.warning("%s runs through hloc, here, in one process", name)
    return ours


def _groups(path: Path, key: str) -> set[str]:
    with reading(path) as file:
        return set(names_with(file, key))


def _not_in(names: Sequence[str], groups: Container[str]) -> list[str]:
    return [name for name in names if name not in groups]


def _not_matched(lines: Sequence[str], groups: Container[str]) -> list[str]:
    return [" ".join(pair) for pair in unmatched(map(_pair, lines), groups)]


def _pair(line: str) -> Pair:
    first, second = line.split()
    return first, second


def _read_lines(path: Path) -> list[str]:
    # Not by splitlines(): a name may have a form feed.
    return path.read_text(encoding="utf-8").split("\n")[:-1]
