"""Save checkpoints of the network, and the state from which a run resumes.

Both files are either complete or unchanged, and only hold tensors and plain values.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping, Sequence
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
    """Return the path of an epoch's checkpoint, whose name is that of the release."""
    return folder / f"save-{epoch}.pth"


def save_checkpoint(
    path: Path,
    parameters: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    names: Sequence[str],
) -> None:
    """Write the parameters of a network together with the settings of its training.

    Args:
        path: the file.
        parameters: parameters by their published names.
        settings: plain values, stored under ``settings``.
        names: keys that the parameters are stored under; they share the same bytes.
    """
    parameters = {name: values.detach().cpu() for name, values in parameters.items()}
    _save(path, {**dict.fromkeys(names, parameters), "settings": dict(settings)})


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the state from which a run resumes, and replace an earlier one."""
    _save(folder / STATE, dict(state))


def load_state(folder: Path) -> dict[str, Any] | None:
    """Read what :func:`save_state` wrote, or return None if there is no file.

    Raises:
        DiskHlocError: the file is not the state of a training run.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _NOT_A_STATE as error:
        raise DiskHlocError(
            f"{path} is not the state of a training run ({type(error).__name__}): start over with "
            "--overwrite"
        ) from error
    if not isinstance(state, dict) or not {"network", "optimizer", "settings"} <= set(state):
        raise DiskHlocError(
            f"{path} is not the state of a training run: start over with --overwrite"
        )
    return state


def _save(path: Path, content: dict[str, Any]) -> None:
    with replaced(path) as partial:
        torch.save(content, partial)
