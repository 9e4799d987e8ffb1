"""Features and matchers side by side, on the same photos, pairs, cameras and mapper."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from disk_hloc.errors import DiskHlocError, listing
from disk_hloc.eval import comparison_results
from disk_hloc.eval.reference import read_reference
from disk_hloc.eval.rows import find_row, is_current, named_rows
from disk_hloc.io.hloc.pairs import read_pairs
from disk_hloc.io.images import ImageReadError, list_images, read_image
from disk_hloc.io.inputs import digest_of_photos
from disk_hloc.io.output_folder import one_run
from disk_hloc.io.text import require_listable
from disk_hloc.log import logger
from disk_hloc.report.pair_picture import same_pair
from disk_hloc.stages import pairs, reconstruct

from . import compare_row, pairing
from .compare_row import Shared


@one_run("output", "image_dir")
def main(
    image_dir: Path,
    output: Path,
    *,
    rows: Sequence[str],
    pairs_from: str = "auto",
    max_keypoints: int | None = None,
    poses: Path | None = None,
    camera: str | None = None,
    camera_mode: str = "auto",
    engine: str = "auto",
    mapper: str = "auto",
    robust: bool = True,
    overwrite: bool = False,
    device: str = "auto",
    verbose: bool = False,
    dask: str | None = None,
) -> dict[str, Any]:
    """Run each row from photos to a model and measure it.

    Finished rows are skipped, and the features and matches of a row that was stopped are kept. A
    row that fails has its reason in the results and does not stop the others.

    Args:
        image_dir: the photos, at any depth.
        output: gets ``results.json``, ``results.md``, ``matches.png``, ``pairs.txt``,
            ``features/`` and, for each row, ``rows/<row>/`` with matches and model.
        rows: names of configs/compare.yaml, or ``extractor/matcher``.
        pairs_from: as of :func:`disk_hloc.pipelines.sfm.main`. Photos are retrieved by the
            features of ``disk``, whatever the rows are.
        max_keypoints: keypoints of an image, for every row; None leaves each conf's own number.
        poses: known poses: a poses file, or a folder of calibration files
            (:func:`disk_hloc.eval.reference.read_reference`).
        camera: the camera of all images, ``"PINHOLE fx,fy,cx,cy"``. Known cameras stay fixed.
        overwrite: run the rows again from scratch.
        device: ``auto``, ``cpu``, ``cuda``, ...
        dask: who extracts and matches (:func:`disk_hloc.parallel.workers.connected`); None is this
            process.
        camera_mode, engine, mapper, robust, verbose: see
            :func:`disk_hloc.stages.reconstruct.main`. A camera for each image needs ``native``.

    Returns:
        What ``results.json`` holds: ``settings``, the same for all rows, and ``rows``: name ->
        ``figures`` (:mod:`disk_hloc.eval.comparison`), ``seconds`` of each stage (None if a run of
        it was killed) and confs, or the ``reason`` why they are missing.

    Raises:
        DiskHlocError: an unknown row or option, unreadable photos, poses or cameras that do not
            fit, results made with other settings, or no row could be run.
    """
    chosen = [find_row(name) for name in rows]
    if not chosen:
        raise DiskHlocError(f"no row is given; known: {', '.join(named_rows())}")
    names = list_images(image_dir)
    require_listable(names)
    photos = pairs.Photos(names, image_dir, device=device)
    pairs.check_choice(pairs_from, photos)
    reference = read_reference(poses, camera, names)
    if reference.poses and reference.known_cameras() is None:
        logger.warning("No stereo accuracy: it needs --camera, or calibration files")
    if reference.cameras is not None and engine == "auto":
        engine = "native"
    options = {
        "engine": reconstruct.check_options(engine, camera_mode, camera, mapper, image_dir, names),
        "camera_mode": camera_mode,
        "fix_intrinsics": camera is not None or reference.cameras is not None,
        "mapper": mapper,
        "robust": robust,
    }
    # All rows get the same photos, so one that cannot be read stops them all.
    _require_readable(image_dir, names)
    pairs_path = output / "pairs.txt"
    shared = Shared(image_dir, pairs_path, reference, max_keypoints, options, device, dask)
    features = partial(compare_row.extract_features, find_row("disk"), output, shared)
    pairing.main(pairs_from, photos, features, output)
    settings = comparison_results.settings(
        reference, pairs_path, max_keypoints, options, device,
        photos=digest_of_photos(output, image_dir, names),
    )  # fmt: skip
    repeated = [row.name for row in chosen] if overwrite else []
    results, dropped = comparison_results.resume(output, settings, repeated)
    for name in {*repeated, *dropped}:
        compare_row.remove(find_row(name), output)
    comparison_results.write(output, results)
    options["verbose"] = verbose
    for row in chosen:
        former = results["rows"].get(row.name, {})
        if "figures" in former and is_current(row, former, max_keypoints):
            logger.info("%s is done already", row.name)
            continue
        logger.info("%s ...", row.name)
        try:
            results["rows"][row.name] = compare_row.main(row, output, shared)
        except Exception as error:  # noqa: BLE001 - whatever other people's models raise
            reason = " ".join(str(error).split())
            if not isinstance(error, DiskHlocError):
                reason = f"{type(error).__name__}: {reason}"
            logger.warning("%s failed: %s", row.name, reason)
            results["rows"][row.name] = {"reason": reason}
        comparison_results.write(output, results)
    done = [name for name, row in results["rows"].items() if "figures" in row]
    if not done:
        listed = "; ".join(f"{name}: {row['reason']}" for name, row in results["rows"].items())
        raise DiskHlocError(f"no row could be run: {listed}")
    files = {name: find_row(name).files(output) for name in done}
    same_pair(image_dir, files, read_pairs(pairs_path), output / "matches.png")
    return results


def _require_readable(image_dir: Path, names: Sequence[str]) -> None:
    unreadable = []
    for name in names:
        try:
            read_image(image_dir / name)
        except ImageReadError as error:
            unreadable.append(f"{name} ({error})")
    if unreadable:
        raise DiskHlocError(
            f"photos of {image_dir} that cannot be read: {listing(unreadable)}; fix or remove them"
        )
