"""Measure the peak memory of a training step, counted in tensors.

    python benchmarks/train_memory.py [--size 768] [--images 3] [--json OUT]

All of torch's storages are counted from their allocation until they are freed, during one step:
forward pass, one pair at a time, backward pass, Adam. This is the memory that a GPU's allocator
would hold, without the workspaces of convolutions and without fragmentation. All keypoints are
accepted, so that the match matrices have the largest possible size.
"""

from __future__ import annotations

import argparse
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import report
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from disk_hloc.models.disk_network.keypoints import sample_keypoints
from disk_hloc.train.estimator import backward_pairs, pair_loss
from disk_hloc.train.features import Features
from disk_hloc.train.geometry import View
from disk_hloc.train.network import Network
from disk_hloc.train.rewards import depth_reward

GB = 1e9
REWARD = partial(depth_reward, threshold=1.5, true_positive=1.0, false_positive=-0.25)
LOSS = partial(pair_loss, inverse_temperature=50.0, keypoint_penalty=-0.001)


class Held(TorchDispatchMode):
    """Counts the bytes of allocated storages.

    Attributes:
        now, most: current and largest number of bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self.count(value)
        return result

    def count(self, tensor: torch.Tensor) -> None:
        """Count the storage of a tensor if it is new."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.known:
            return
        self.known.add(key)
        size = storage.nbytes()
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=768)
    parser.add_argument("--images", type=int, default=3, help="images in the tuple of the batch")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    figures = {}
    for recompute in (False, True):
        forward, peak, keypoints = step(args.size, args.images, recompute)
        name = "recompute" if recompute else "plain"
        figures[f"{name}: held after the forward pass, GB"] = forward / GB
        figures[f"{name}: peak of the step, GB"] = peak / GB
    figures["keypoints of an image"] = keypoints
    report.write(args.json, figures)


def step(size: int, images: int, recompute: bool) -> tuple[int, int, int]:
    """Return the bytes after the forward pass and at the peak of a step, and keypoints per image.

    Gradients and Adam's moments are allocated before.
    """
    one = TrainingStep(size, images, recompute)
    with Held() as held:
        state = [value for values in one.optimizer.state.values() for value in values.values()]
        for tensor in (one.photos, *one.network.parameters(), *state):
            held.count(tensor.detach())
        for view in one.views:
            held.count(view.depth)
        features = one.forward()
        forward, keypoints = held.now, len(features[0].xy)
        one.backward(features)
    return forward, held.most, keypoints


class TrainingStep:
    """A step of one tuple of images, with a keypoint in every cell.

    Args:
        size: of the square images, in pixels.
        images: of the tuple.
        recompute: see :class:`disk_hloc.train.network.Network`.
        device: of the network.
    """

    def __init__(
        self, size: int, images: int, recompute: bool, device: torch.device | None = None
    ) -> None:
        torch.manual_seed(0)
        self.network = Network(recompute=recompute).to(device)
        with torch.no_grad():
            self.network._last.bias[-1] = 50.0
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-4)
        for parameter in self.network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.photos = torch.rand(images, 3, size, size, device=device)
        matrix = torch.tensor(
            [[size, 0, size / 2], [0, size, size / 2], [0, 0, 1]],
            dtype=torch.float64,
            device=device,
        )
        self.views = [
            View(
                matrix,
                torch.eye(3, dtype=torch.float64, device=device),
                torch.tensor([0.1 * i, 0, 0], device=device),
                torch.ones(size, size, device=device),
            )
            for i in range(images)
        ]

    def forward(self) -> list[Features]:
        """Compute the features."""
        return self.network(self.photos, sample_keypoints)

    def backward(self, features: list[Features]) -> None:
        """Differentiate, and change the parameters."""
        surrogate, _ = backward_pairs([features], [self.views], REWARD, LOSS)
        surrogate.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def __call__(self) -> None:
        """Take the step."""
        self.backward(self.forward())


if __name__ == "__main__":
    main()
