"""The gradient of the expected reward, estimated from keypoints drawn once.

Let F1, F2 be the keypoints drawn in two images and P(i, j) the probability of a match given them
(:mod:`.matching`). The reward R = sum_ij P(i, j) r(i, j) + penalty * (N + M) has its expectation
over matches in closed form; over keypoints it is estimated by the score function:

    gradient of E R = E[ dR/dP dP + sum_k w_k d log p(k) ]

with the log-probability p(k) of each keypoint drawn. There are two choices of the weight w_k:

* ``exact``: w_k = R - R without k, what the keypoint adds. R without k does not depend on what was
  drawn in k's cell, so the estimate is unbiased; it is a baseline of k's own, and a cell that drew
  nothing adds nothing.
* ``own``: the keypoint's own matches, sum_j P(k, j) r(k, j) + penalty. This is the paper's (section
  3) and the release's. It leaves out that a keypoint also takes matches from the others of
  its image, and so is biased wherever they compete.

Both need nothing but the matrices of one pair at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from disk_hloc.choices import CREDITS
from disk_hloc.errors import DiskHlocError

from .geometry import View
from .matching import match_log_probabilities
from .network import Features
from .rewards import Reward

# Of two features sets and the rewards of their pairs: a loss to differentiate, and its figures.
PairLoss = Callable[[Features, Features, Tensor], tuple[Tensor, "PairFigures"]]


class PairFigures(NamedTuple):
    """Figures of a pair of images.

    Attributes:
        reward: expected over matches.
        n_keypoints: of both images.
        n_pairs: expected number of matches.
    """

    reward: float
    n_keypoints: int
    n_pairs: float


def pair_loss(
    features1: Features,
    features2: Features,
    rewards: Tensor,
    *,
    inverse_temperature: float,
    keypoint_penalty: float,
    credit: str = "exact",
) -> tuple[Tensor, PairFigures]:
    """A loss whose gradient is minus the estimate for one pair of images.

    Its value has no meaning.

    Args:
        features1, features2: keypoints as drawn, with N and M log-probabilities and descriptors.
        rewards: (N, M).
        inverse_temperature: theta_M.
        keypoint_penalty: what each keypoint adds to the reward, zero or less.
        credit: ``exact`` or ``own``, see above.

    Raises:
        DiskHlocError: an unknown ``credit``.
    """
    if credit not in CREDITS:
        raise DiskHlocError(f"credit is {credit!r}, but must be one of {', '.join(CREDITS)}")
    forth, back = match_log_probabilities(
        features1.descriptors, features2.descriptors, inverse_temperature
    )
    with torch.no_grad():
        probability = (forth + back).exp()
        earned = probability * rewards
        n_keypoints = sum(earned.shape)
        figures = PairFigures(
            float(earned.sum()) + keypoint_penalty * n_keypoints,
            n_keypoints,
            float(probability.sum()),
        )
        weights1, weights2 = earned.sum(dim=1), earned.sum(dim=0)
        if credit == "exact":
            # A feature of the first image takes from the others where those of the second pick
            # among them, and the other way around.
            weights1 = weights1 - taken_from_others(earned, back.exp()).sum(dim=1)
            weights2 = weights2 - taken_from_others(earned.T, forth.exp().T).sum(dim=1)
    loss = -(earned * (forth + back)).sum()
    loss = loss - ((weights1 + keypoint_penalty) * features1.score).sum()
    loss = loss - ((weights2 + keypoint_penalty) * features2.score).sum()
    return loss, figures


def taken_from_others(earned: Tensor, picked: Tensor) -> Tensor:
    """What the others of an image would earn more, if one of its features were not there.

    Without feature k, the features of the other image pick among the rest: each probability of
    the column grows by 1 / (1 - picked[k]).

    Args:
        earned: (N, M) reward times probability.
        picked: (N, M) probability that each of the other image's M features picks each of the N;
            its columns sum to one.

    Returns:
        (N, M): for each of N, over each of M.
    """
    if not earned.numel():
        return earned
    total = earned.sum(dim=0)
    # Where a feature is picked almost surely, 1 - picked has lost its digits: summed instead.
    best = picked.argmax(dim=0, keepdim=True)
    rest = picked.scatter(0, best, 0).sum(dim=0).clamp(min=torch.finfo(picked.dtype).tiny)
    others = earned.scatter(0, best, 0).sum(dim=0)
    share = picked.scatter(0, best, 0)
    taken = (total - earned) * (share / (1 - share))
    return taken.scatter(0, best, (others * (picked.gather(0, best)[0] / rest))[None])


def backward_pairs(
    features: Sequence[Sequence[Features]],
    views: Sequence[Sequence[View]],
    reward: Reward,
    loss: PairLoss,
) -> tuple[Tensor, list[PairFigures]]:
    """Differentiate the losses of all pairs of each tuple, one pair at a time.

    The match matrices of a pair are freed before those of the next are made: gradients gather in
    copies of the features that are cut off from the network ("Optimization" in section 4 of the
    paper).

    Args:
        features: of each image of each tuple, attached to the network.
        views: likewise, their cameras.
        reward: of keypoints' pairs.
        loss: of a pair.

    Returns:
        A scalar whose gradient by the network's parameters is that of the sum of all losses, for
        one backward pass through the network; and each pair's figures.
    """
    figures = []
    surrogate: Tensor | None = None
    for of_tuple, tuple_views in zip(features, views, strict=True):
        leaves = [one.detached() for one in of_tuple]
        for i, j in _pairs(len(leaves)):
            first, second = leaves[i], leaves[j]
            dtype = first.descriptors.dtype
            with torch.no_grad():
                rewards = reward(
                    first.xy.to(dtype), second.xy.to(dtype), tuple_views[i], tuple_views[j]
                )
            value, pair_figures = loss(first, second, rewards)
            value.backward()
            figures.append(pair_figures)
        for attached, leaf in zip(of_tuple, leaves, strict=True):
            for output, gathered in (
                (attached.score, leaf.score.grad),
                (attached.descriptors, leaf.descriptors.grad),
            ):
                if gathered is None:
                    raise ValueError("a tuple needs two images at least")
                part = (output * gathered).sum()
                surrogate = part if surrogate is None else surrogate + part
    if surrogate is None:
        raise ValueError("no tuple was given")
    return surrogate, figures


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    return combinations(range(count), 2)
