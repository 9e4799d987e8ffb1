"""Estimate the gradient of the expected reward from one sample of keypoints.

Let F1, F2 be the keypoints sampled in two images and P(i, j) the probability of a match given them
(:mod:`.matching`). The reward R = sum_ij P(i, j) r(i, j) + penalty * (N + M) is its expectation
over matches in closed form. The expectation over keypoints is estimated by the score function:

    gradient of E R = E[ dR/dP dP + sum_k w_k d log p(k) ]

with the probability p(k) of each sampled keypoint. There are two choices of the weight w_k:

* ``exact``: w_k = R - R without k, which is what the keypoint adds. R without k does not depend on
  the sample in k's cell, so it is a baseline of its own for each keypoint, and the estimate is
  unbiased. A cell without a keypoint contributes nothing.
* ``own``: the keypoint's own matches, sum_j P(k, j) r(k, j) + penalty, as in the paper (section 3)
  and the release. It ignores that a keypoint also takes matches from the others of its image, and
  is therefore biased wherever keypoints compete.

Both only need the matrices of one pair at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from disk_hloc.choices import CREDITS
from disk_hloc.errors import DiskHlocError

from .features import Features
from .geometry import View
from .matching import match_log_probabilities
from .rewards import Reward

# (features, features, (N, M) rewards) -> a loss to differentiate, and the pair's figures.
PairLoss = Callable[[Features, Features, Tensor], tuple[Tensor, "PairFigures"]]


class PairFigures(NamedTuple):
    """Figures of a pair of images.

    Attributes:
        reward: expected reward over matches.
        n_keypoints: number of keypoints in both images.
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
    affinity: str = "euclidean",
) -> tuple[Tensor, PairFigures]:
    """Return a loss whose gradient is the negative of the estimate for one pair of images.

    The value of the loss itself has no meaning.

    Args:
        features1, features2: sampled keypoints, with N and M log-probabilities and descriptors.
        rewards: (N, M) rewards of matches.
        inverse_temperature: theta_M.
        keypoint_penalty: reward of each keypoint, zero or negative.
        credit: ``exact`` or ``own``, see above.
        affinity: distance of descriptors, see :func:`.matching.match_log_probabilities`.

    Raises:
        DiskHlocError: ``credit`` or ``affinity`` is unknown.
    """
    if credit not in CREDITS:
        raise DiskHlocError(f"credit must be one of {', '.join(CREDITS)}, found {credit!r}")
    forth, back = match_log_probabilities(
        features1.descriptors, features2.descriptors, inverse_temperature, affinity
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
            # A feature of the first image takes matches from the others of its image where the
            # features of the second image pick among them, and vice versa.
            weights1 = weights1 - taken_from_others(earned, back.exp()).sum(dim=1)
            weights2 = weights2 - taken_from_others(earned.T, forth.exp().T).sum(dim=1)
    loss = -(earned * (forth + back)).sum()
    loss = loss - ((weights1 + keypoint_penalty) * features1.score).sum()
    loss = loss - ((weights2 + keypoint_penalty) * features2.score).sum()
    return loss, figures


def taken_from_others(earned: Tensor, picked: Tensor) -> Tensor:
    """Return what the other features of an image would earn in addition without one of them.

    Without feature k, the features of the other image pick among the rest: each probability in
    the column is divided by 1 - picked[k].

    Args:
        earned: (N, M) reward times probability.
        picked: (N, M) probability that each of the other image's M features picks each of the N;
            its columns sum to one.

    Returns:
        (N, M): what the features other than n would earn in addition from feature m.
    """
    if not earned.numel():
        return earned
    total = earned.sum(dim=0)
    # If a feature is picked almost surely, 1 - picked loses its precision; sum the others instead.
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

    The matrices of a pair are freed before those of the next one are computed: the gradients
    accumulate in copies of the features that are detached from the network ("Optimization" in
    section 4 of the paper).

    Args:
        features: features of each image of each tuple, attached to the network.
        views: cameras of each image of each tuple.
        reward: function that computes the rewards of two images' keypoints.
        loss: function that computes the loss of a pair.

    Returns:
        A scalar whose gradient with respect to the network's parameters is that of the sum of all
        losses, for one backward pass through the network; and the figures of each pair.
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
            if value.requires_grad:
                value.backward()
            figures.append(pair_figures)
        for attached, leaf in zip(of_tuple, leaves, strict=True):
            for output, gathered in (
                (attached.score, leaf.score.grad),
                (attached.descriptors, leaf.descriptors.grad),
            ):
                if not output.requires_grad:  # its part of the network is frozen
                    continue
                if gathered is None:
                    raise ValueError("a tuple needs at least two images")
                part = (output * gathered).sum()
                surrogate = part if surrogate is None else surrogate + part
    if surrogate is None:
        raise ValueError("no tuples were given, or nothing of the network is trained")
    return surrogate, figures


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    return combinations(range(count), 2)
