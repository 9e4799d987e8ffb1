"""Checkpoints of the network, and the state from which a run goes on.

Both are written whole or not at all, and hold tensors and plain values alone.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from disk_hloc.errors import DiskHlocError
from disk_hloc.io.replace import replaced

STATE = "state.pt"

_NOT_A_STATE = (
    AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError,
    pickle.UnpicklingError, struct.error,
)  # fmt: skip


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Where the checkpoint of an epoch is; the name is the release's."""
    return folder / f"save-{epoch}.pth"


def save_checkpoint(
    path: Path, parameters: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> None:
    """Write the parameters of a network with the settings that made them.

    They are under ``disk``, as the release's training writes them, and once more, in the same
    bytes, under ``extractor``, where kornia's DISK looks.

    Args:
        path: the file.
        parameters: by kornia's names.
        settings: under ``settings``; plain values.
    """
    parameters = {name: values.detach().cpu() for name, values in parameters.items()}
    _save(path, {"disk": parameters, "extractor": parameters, "settings": dict(settings)})


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write what a run needs to go on, in place of what an earlier call wrote."""
    _save(folder / STATE, dict(state))


def load_state(folder: Path) -> dict[str, Any] | None:
    """What :func:`save_state` wrote; None if nothing.

    Raises:
        DiskHlocError: the file is not one that it wrote.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _NOT_A_STATE as error:
        raise DiskHlocError(
            f"{path} is no state of a training ({type(error).__name__}): start anew with "
            "--overwrite"
        ) from error
    if not isinstance(state, dict) or not {"network", "optimizer", "settings"} <= set(state):
        raise DiskHlocError(f"{path} is no state of a training: start anew with --overwrite")
    return state


def _save(path: Path, content: dict[str, Any]) -> None:
    with replaced(path) as partial:
        torch.save(content, partial)
