"""From a features file to a file of global descriptors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from disk_hloc.confs import require_known_keys, require_values
from disk_hloc.errors import DiskHlocError, SkippedImages, listing, require_on_error, skipped
from disk_hloc.io.digests import digest_of_data
from disk_hloc.io.hloc.features import (
    content_digest,
    descriptors_shape,
    features_digests,
    list_keypoints,
)
from disk_hloc.io.hloc.global_features import (
    KEY,
    codebook_path,
    global_entry,
    read_codebook,
    read_learnt_from,
    write_codebook,
)
from disk_hloc.io.outputs import require_output
from disk_hloc.io.store import (
    CONF_ATTRIBUTE,
    Fingerprint,
    Plan,
    conf_text,
    journal_path,
    plan,
    reading,
    writing,
)
from disk_hloc.io.store.hdf5 import entries_with, read, text_attribute
from disk_hloc.log import logger
from disk_hloc.models.vlad import DEFAULT_CONF, VALUES, describe, learn_codebook

# A codebook is learnt from at least this many descriptors of an image, so from fewer images if
# there are many.
MIN_PER_IMAGE = 256


def main(
    conf: Mapping[str, Any],
    feature_path: Path,
    output: Path,
    *,
    codebook: Path | None = None,
    relearn: bool = False,
    overwrite: bool = False,
    on_error: str = "skip",
) -> Path:
    """Describe each image of a features file by one vector, for retrieval.

    Images that the file has already are skipped, so a run that was stopped resumes. The codebook
    is saved beside the file (:func:`disk_hloc.io.hloc.global_features.codebook_path`), and images
    that are added later are described with it, unless it is to be learnt again.

    Args:
        conf: ``{output, model}``; see configs/global.yaml.
        feature_path: the features file.
        output: the file of global descriptors to make or to add to
            (:mod:`disk_hloc.io.hloc.global_features`).
        codebook: the codebook to use, for example that of another data set; without it, one is
            learnt from these features. The descriptors of two files can be compared only if they
            have the same codebook.
        relearn: learn the codebook again, and describe all images with it, if it was learnt from
            other features or with another conf: the file is then that of one run on the features
            as they are now. Not with ``codebook``.
        overwrite: make the file and its codebook from scratch.
        on_error: ``skip`` images whose descriptors cannot be read or are not finite, or ``stop`` at
            the first.

    Returns:
        ``output``.

    Raises:
        SkippedImages: some images have broken descriptors; all others are described.
        DiskHlocError: not our model, no features or no descriptors, too few to learn from, a
            codebook that does not fit, no space, or a file made with another conf or codebook.
    """
    if conf["model"]["name"] != "disk_vlad":
        raise DiskHlocError(
            f"no global descriptor is called {conf['model']['name']!r}; known: disk_vlad; hloc's "
            "own are extractors"
        )
    require_known_keys(conf["model"], ["name", *DEFAULT_CONF], "model disk_vlad")
    require_values(conf["model"], VALUES, "model disk_vlad")
    model = {**DEFAULT_CONF, **conf["model"]}
    require_output(output, "hdf5", {"features": feature_path, "codebook": codebook})
    require_on_error(on_error)
    broken = _Broken(stop=on_error == "stop")
    shapes = _descriptor_shapes(feature_path)
    learnt_from = _learnt_from(model, feature_path, shapes) if relearn else ""
    if relearn:
        overwrite = overwrite or not _is_made_of(output, model, learnt_from)
    elif not overwrite and output.is_file():
        # A codebook learnt from other features is of no use.
        former = _plan(feature_path, shapes, _described(output), output)
        overwrite = former.outdated == set(_described(output)) != set()
    book = _choose_codebook(model, shapes, feature_path, output, codebook, overwrite, broken)
    made_with = _made_with(model, book)
    with (
        reading(feature_path) as features,
        writing(output, made_with, overwrite=overwrite) as store,
    ):
        found = store.entries(KEY)
        if not found:
            write_codebook(codebook_path(output), book, learnt_from)
        planned = _plan(feature_path, shapes, found, output)
        planned.log()
        store.drop(planned.outdated)
        todo = planned.todo
        for name in tqdm(todo, desc="Describe", unit="image", disable=not todo):
            with broken.noted(name):
                descriptors = read(features, f"{name}/descriptors", shapes[name])
            # An error of the write is not about this image.
            if name not in broken.reasons:
                digest = content_digest(features, name)
                store.add(*global_entry(name, describe(descriptors, book)), digest)
    empty = [name for name in todo if shapes[name][1] == 0 and name not in broken.reasons]
    if empty:
        logger.warning(
            "%d images have no features, so their descriptor is zero and retrieves nothing: %s",
            len(empty),
            listing(empty),
        )
    if broken.reasons:
        raise SkippedImages(skipped(broken.reasons, f" of {output}"))
    return output


def remove(output: Path) -> None:
    """Remove a file of global descriptors with its codebook and unfinished work, if they exist."""
    for path in (output, codebook_path(output), journal_path(output)):
        path.unlink(missing_ok=True)


def _made_with(model: Mapping[str, Any], book: np.ndarray) -> dict[str, Any]:
    """Return what all entries of a file depend on."""
    return {"model": dict(model), "codebook": hashlib.sha256(book.tobytes()).hexdigest()}


def _learnt_from(model: Mapping[str, Any], feature_path: Path, names: Iterable[str]) -> str:
    """Return the digest of what a codebook is learnt from: all features, and the conf."""
    return digest_of_data([dict(model), sorted(features_digests(feature_path, names).items())])


def _is_made_of(output: Path, model: Mapping[str, Any], learnt_from: str) -> bool:
    """Return whether a file and its codebook may be resumed with these features and this conf."""
    saved = codebook_path(output)
    if not saved.is_file():
        return not output.exists() and not journal_path(output).exists()
    if read_learnt_from(saved) != learnt_from:
        return False
    if not output.is_file():
        return True
    # A run that was killed may have saved a new codebook beside a file that is made with another.
    with reading(output) as file:
        made_with = text_attribute(file, CONF_ATTRIBUTE)
    return made_with == conf_text(_made_with(model, read_codebook(saved)))


class _Broken:
    """The images whose descriptors are broken; with ``stop``, the first one raises its error."""

    def __init__(self, stop: bool) -> None:
        self.stop = stop
        self.reasons: dict[str, str] = {}

    @contextmanager
    def noted(self, name: str) -> Iterator[None]:
        try:
            yield
        except DiskHlocError as error:
            if self.stop:
                raise
            self.reasons[name] = str(error)


def _descriptor_shapes(feature_path: Path) -> dict[str, tuple[int, int]]:
    """Return image name -> shape (D, N) of its descriptors; all have the same D."""
    names = list_keypoints(feature_path)
    if not names:
        raise DiskHlocError(f"{feature_path} has no features: extract them first")
    shapes: dict[str, tuple[int, int]] = {}
    with reading(feature_path) as file:
        for name in names:
            shapes[name] = descriptors_shape(file, name)
    lengths = {length: name for name, (length, _) in shapes.items()}
    if len(lengths) > 1:
        listed = ", ".join(f"{length} of {name}" for length, name in lengths.items())
        raise DiskHlocError(f"{feature_path} mixes descriptors of several lengths: {listed}")
    return shapes


def _described(output: Path) -> dict[str, Fingerprint | None]:
    """Return what a file of global descriptors holds.

    Raises:
        DiskHlocError: it holds something else, or has no codebook.
    """
    with reading(output) as file:
        done = dict(entries_with(file, KEY))
        foreign = len(file) > 0 and not done
    if foreign or (done and not codebook_path(output).is_file()):
        reason = "holds something else" if foreign else f"has no {codebook_path(output).name}"
        raise DiskHlocError(f"{output} {reason}, so nothing can be added to it: give another file")
    return done


def _plan(
    feature_path: Path,
    names: Mapping[str, Any],
    found: Mapping[str, Fingerprint | None],
    output: Path,
) -> Plan:
    """Return which images have to be described."""
    with reading(feature_path) as features:
        return plan(
            output, list(names), found, lambda name, _: content_digest(features, name),
            kinds=("images",), unit="image", verb="describe",
        )  # fmt: skip


def _choose_codebook(
    model: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, int]],
    feature_path: Path,
    output: Path,
    given: Path | None,
    overwrite: bool,
    broken: _Broken,
) -> np.ndarray:
    """Return the (K, D) codebook: the given one, else the existing one, else a new one."""
    saved = codebook_path(output)
    source = given or (saved if saved.is_file() and not overwrite else None)
    if source is None:
        sample = _sample(feature_path, shapes, model["max_descriptors"], model["seed"], broken)
        logger.info("learning %d clusters from %d descriptors", model["clusters"], len(sample))
        return learn_codebook(sample, model["clusters"], model["seed"])
    book = read_codebook(source)
    length = next(iter(shapes.values()))[0]
    if book.shape != (model["clusters"], length):
        raise DiskHlocError(
            f"the codebook {source} has {book.shape[0]} clusters of length {book.shape[1]}; the "
            f"conf asks for {model['clusters']}, and the descriptors of {feature_path} have length "
            f"{length}: give another codebook or conf, or --overwrite to learn one"
        )
    logger.info("codebook %s", source)
    return book


def _sample(
    feature_path: Path,
    shapes: Mapping[str, tuple[int, int]],
    at_most: int,
    seed: int,
    broken: _Broken,
) -> np.ndarray:
    """Return (M, D) float32 descriptors, chosen at random from images chosen at random."""
    random = np.random.default_rng(seed)
    share = max(MIN_PER_IMAGE, -(-at_most // len(shapes)))
    chosen: list[np.ndarray] = []
    left = at_most
    with reading(feature_path) as file:
        for name in random.permutation(sorted(shapes)):
            with broken.noted(str(name)):
                descriptors = read(file, f"{name}/descriptors", shapes[str(name)]).T
                keep = random.permutation(len(descriptors))[: min(share, left)]
                chosen.append(descriptors[keep].astype(np.float32))
                left -= len(keep)
            if left <= 0:
                break
    if not chosen:
        raise DiskHlocError(f"no image of {feature_path} has descriptors that can be read")
    return np.concatenate(chosen)
