"""The networks that can be trained, by the name in a conf's ``model``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from disk_hloc.errors import DiskHlocError

from .cfe import CFE
from .msnet import MSNet
from .network import Network
from .posfeat import PoSFeat
from .trainable import Trainable

NETWORKS: dict[str, type[Trainable]] = {
    "disk": Network,
    "posfeat": PoSFeat,
    "msnet": MSNet,
    "cfe": CFE,
}
# Keys of a conf that name files of initial parameters.
_FILES = ("weights", "imagenet")


def build(conf: Mapping[str, Any], *, from_files: bool = True) -> Trainable:
    """Return the network of a conf.

    Args:
        conf: the settings' ``model``.
        from_files: start with the weights that the conf names. Without, the parameters are torch's
            initialisation, for a run that is resumed.

    Raises:
        DiskHlocError: the weights are missing, or are those of another network; or a part to train
            is unknown.
    """
    kind = NETWORKS[conf["name"]]
    options = {key: conf[key] for key in ("weights", *kind.default_conf)}
    if not from_files:
        options |= {key: None for key in _FILES if key in options}
    network = kind(**options)
    require_parts(network, conf["trained"])
    return network


def require_parts(network: Trainable, trained: Sequence[str] | None) -> None:
    """Check that a network has the parts that a conf trains.

    Raises:
        DiskHlocError: one of them is unknown, or the list is empty.
    """
    known = network.parts()
    if trained is not None and (not trained or not set(trained) <= set(known)):
        raise DiskHlocError(
            f"model: trained must be null, or a list of parts of the network ({', '.join(known)}), "
            f"found {trained!r}"
        )


def set_training(network: Trainable, trained: Sequence[str] | None) -> None:
    """Put the trained parts in training mode; freeze the others, and put them in evaluation mode.

    In evaluation mode, batch normalisation keeps its statistics, which training would change
    without any gradient.

    Args:
        network: the network.
        trained: names of its parts; None trains all.
    """
    network.train()
    for name, part in network.parts().items():
        chosen = trained is None or name in trained
        part.train(chosen)
        part.requires_grad_(chosen)


def require_divisible(height: int, width: int, cell: int, stride: int) -> None:
    """Check that images of a size in pixels suit a network and can be divided into cells.

    Raises:
        DiskHlocError: the size is not divisible, or too small for instance normalization.
    """
    for name, side in (("height", height), ("width", width)):
        if side % stride or side % cell:
            raise DiskHlocError(
                f"the {name} must be a multiple of {stride} and of the cell size {cell}, found "
                f"{side} px"
            )
    if min(height, width) < 2 * stride:
        raise DiskHlocError(
            f"images of {width}x{height} px are too small: use at least {2 * stride} px"
        )
