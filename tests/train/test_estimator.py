"""The gradient estimator, compared with the gradient of the exact expected reward."""

from __future__ import annotations

from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor

from disk_hloc.errors import DiskHlocError
from disk_hloc.models.disk_network.keypoints import sample_keypoints
from disk_hloc.train.estimator import backward_pairs, pair_loss, taken_from_others
from disk_hloc.train.features import Features
from disk_hloc.train.geometry import View
from disk_hloc.train.matching import match_log_probabilities

CELL = 2
THETA = 3.0
PENALTY = -0.05
NOWHERE = View(torch.eye(3), torch.eye(3), torch.zeros(3))

# The keypoint (x, y) sampled in a cell, or None.
Outcome = tuple[int, int] | None


class Case:
    """Two images of 2 x 4 logits, i.e. two cells each, and dense descriptors with 3 channels."""

    def __init__(self, cells: int = 2, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        width = CELL * cells
        self.cells = cells
        self.heatmaps = [draw(CELL, width).requires_grad_() for _ in range(2)]
        self.dense = [draw(3, CELL, width).requires_grad_() for _ in range(2)]
        pixels = CELL * width
        self.rewards = draw(pixels, pixels)

    @property
    def parameters(self) -> list[Tensor]:
        return [*self.heatmaps, *self.dense]

    def reward(self, xy1: Tensor, xy2: Tensor, *views: View) -> Tensor:
        """Return arbitrary rewards, one for each pair of pixels."""
        index1, index2 = ((xy[:, 1] * CELL * self.cells + xy[:, 0]).long() for xy in (xy1, xy2))
        return self.rewards[index1][:, index2]

    def describe(self, image: int, xy: Tensor) -> Tensor:
        described = self.dense[image][:, xy[:, 1], xy[:, 0]].T
        return torch.nn.functional.normalize(described, dim=1)

    def outcomes(self, image: int) -> list[tuple[list[tuple[int, int]], Tensor]]:
        """Yield all sets of keypoints of an image with their probabilities, as in the paper.

        A cell proposes a pixel by a softmax and accepts it by a sigmoid. A rejected pixel leaves no
        trace, whichever it was.
        """
        heatmap = self.heatmaps[image]
        by_cell: list[list[tuple[Outcome, Tensor]]] = []
        for c in range(self.cells):
            logits = heatmap[:, c * CELL : (c + 1) * CELL].flatten()
            proposed, accepted = logits.softmax(0), logits.sigmoid()
            each: list[tuple[Outcome, Tensor]] = [
                ((c * CELL + i % CELL, i // CELL), proposed[i] * accepted[i])
                for i in range(CELL * CELL)
            ]
            each.append((None, (proposed * (1 - accepted)).sum()))
            by_cell.append(each)
        combined = []
        for chosen in product(*by_cell):
            probability = torch.stack([p for _, p in chosen]).prod()
            combined.append(([xy for xy, _ in chosen if xy is not None], probability))
        return combined

    def log_probability(self, image: int, xy: Tensor) -> Tensor:
        """Return (N,) log-probabilities of keypoints, as the sampler returns them."""
        found = []
        for x, y in xy.tolist():
            cell = self.heatmaps[image][:, x // CELL * CELL :][:, :CELL].flatten()
            index = y * CELL + x % CELL
            found.append(cell.log_softmax(0)[index] + cell[index].sigmoid().log())
        return torch.stack(found) if found else self.heatmaps[image].new_zeros(0)

    def features(self, image: int, keypoints: list[tuple[int, int]]) -> Features:
        xy = torch.tensor(keypoints, dtype=torch.int64).reshape(-1, 2)
        return Features(xy, self.log_probability(image, xy), self.describe(image, xy))

    def drawn(self, image: int) -> Features:
        xy, score = sample_keypoints(self.heatmaps[image], CELL)
        return Features(xy, score, self.describe(image, xy))


def matches_enumerated(features1: Features, features2: Features, rewards: Tensor) -> Tensor:
    """Return the expected reward of matches over all picks of all features of both images."""
    n, m = rewards.shape
    if n == 0 or m == 0:
        return rewards.new_zeros(())
    affinity = -THETA * (2 - 2 * features1.descriptors @ features2.descriptors.T).sqrt()
    forth, back = affinity.softmax(1), affinity.softmax(0)
    expected = rewards.new_zeros(())
    for picks1 in product(range(m), repeat=n):
        for picks2 in product(range(n), repeat=m):
            probability = rewards.new_ones(())
            for i, j in enumerate(picks1):
                probability = probability * forth[i, j]
            for j, i in enumerate(picks2):
                probability = probability * back[i, j]
            earned = sum(
                (rewards[i, j] for i, j in enumerate(picks1) if picks2[j] == i),
                rewards.new_zeros(()),
            )
            expected = expected + probability * earned
    return expected


def expected_reward(case: Case) -> Tensor:
    """Return the exact expected reward over all keypoints and matches, differentiable."""
    expected = torch.zeros((), dtype=torch.float64)
    for keypoints1, probability1 in case.outcomes(0):
        for keypoints2, probability2 in case.outcomes(1):
            features = case.features(0, keypoints1), case.features(1, keypoints2)
            rewards = case.reward(features[0].xy, features[1].xy)
            reward = matches_enumerated(*features, rewards)
            reward = reward + PENALTY * (len(keypoints1) + len(keypoints2))
            expected = expected + probability1 * probability2 * reward
    return expected


def estimate(
    case: Case, features1: Features, features2: Features, credit: str
) -> tuple[list[Tensor], float]:
    """Return the estimated gradient of the expected reward, and the reward."""

    def loss(*pair: Tensor) -> tuple[Tensor, object]:
        return pair_loss(*pair, inverse_temperature=THETA, keypoint_penalty=PENALTY, credit=credit)

    surrogate, figures = backward_pairs(
        [[features1, features2]], [[NOWHERE, NOWHERE]], case.reward, loss
    )
    gradients = torch.autograd.grad(-surrogate, case.parameters, allow_unused=True)
    return [
        torch.zeros_like(parameter) if one is None else one
        for parameter, one in zip(case.parameters, gradients, strict=True)
    ], figures[0].reward


def expected_estimate(case: Case, credit: str) -> list[Tensor]:
    """Return the expectation of the estimate over all keypoints that can be sampled."""
    expected = [torch.zeros_like(parameter) for parameter in case.parameters]
    for keypoints1, probability1 in case.outcomes(0):
        for keypoints2, probability2 in case.outcomes(1):
            features = case.features(0, keypoints1), case.features(1, keypoints2)
            gradients, _ = estimate(case, *features, credit)
            for sum_, one in zip(expected, gradients, strict=True):
                sum_ += (probability1 * probability2).detach() * one
    return expected


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.fixture(scope="module")
def exact(case: Case) -> list[Tensor]:
    return list(torch.autograd.grad(expected_reward(case), case.parameters))


def test_the_expected_estimate_is_the_gradient_of_the_expected_reward(
    case: Case, exact: list[Tensor]
) -> None:
    for true, expected in zip(exact, expected_estimate(case, "exact"), strict=True):
        assert true.abs().max() > 1e-3
        torch.testing.assert_close(expected, true, rtol=0, atol=1e-12)


def frozen(features: Features) -> Features:
    return features._replace(descriptors=features.descriptors.detach())


def frozen_reward(case: Case, affinity: str) -> Tensor:
    """Return the exact expected reward, whose matches are a sum in closed form."""
    expected = torch.zeros((), dtype=torch.float64)
    for keypoints1, probability1 in case.outcomes(0):
        for keypoints2, probability2 in case.outcomes(1):
            one, other = (
                frozen(case.features(i, of)) for i, of in enumerate((keypoints1, keypoints2))
            )
            forth, back = match_log_probabilities(
                one.descriptors, other.descriptors, THETA, affinity
            )
            reward = ((forth + back).exp() * case.reward(one.xy, other.xy)).sum()
            reward = reward + PENALTY * (len(keypoints1) + len(keypoints2))
            expected = expected + probability1 * probability2 * reward
    return expected


def frozen_estimate(case: Case, affinity: str, credit: str) -> Tensor:
    """Return the expected estimate of the gradient with respect to both heatmaps."""
    loss = partial(
        pair_loss, inverse_temperature=THETA, keypoint_penalty=PENALTY, credit=credit,
        affinity=affinity,
    )  # fmt: skip
    expected = torch.zeros(2, *case.heatmaps[0].shape, dtype=torch.float64)
    for keypoints1, probability1 in case.outcomes(0):
        for keypoints2, probability2 in case.outcomes(1):
            if not keypoints1 and not keypoints2:
                continue  # nothing to weigh
            pair = [frozen(case.features(i, of)) for i, of in enumerate((keypoints1, keypoints2))]
            surrogate, _ = backward_pairs([pair], [[NOWHERE] * 2], case.reward, loss)
            found = torch.autograd.grad(-surrogate, case.heatmaps, allow_unused=True)
            for sum_, one in zip(expected, found, strict=True):
                if one is not None:
                    sum_ += (probability1 * probability2).detach() * one
    return expected


def test_the_estimate_is_exact_by_the_cosine_with_frozen_descriptors(case: Case) -> None:
    true = torch.stack(torch.autograd.grad(frozen_reward(case, "cosine"), case.heatmaps))
    assert true.abs().max() > 1e-3
    found = frozen_estimate(case, "cosine", "exact")
    torch.testing.assert_close(found, true, rtol=0, atol=1e-12)
    biased = frozen_estimate(case, "cosine", "own")
    assert (biased - true).norm() > 0.02 * true.norm()


def test_nothing_to_train_is_an_error(case: Case) -> None:
    features = [frozen(case.features(i, [(0, 0)])) for i in range(2)]
    features = [one._replace(score=one.score.detach()) for one in features]
    with pytest.raises(ValueError, match="nothing"):
        backward_pairs([features], [[NOWHERE] * 2], case.reward, lambda *_: (torch.zeros(()), None))


def test_sampled_keypoints_give_the_gradient_on_average(case: Case, exact: list[Tensor]) -> None:
    torch.manual_seed(0)
    drawn = []
    rewards = []
    for _ in range(800):
        gradients, reward = estimate(case, case.drawn(0), case.drawn(1), "exact")
        drawn.append(torch.cat([one.flatten() for one in gradients]))
        rewards.append(reward)
    estimates, true = torch.stack(drawn), torch.cat([one.flatten() for one in exact])
    # Along the gradient itself, and along the first axes of each parameter.
    directions = [true, *torch.eye(len(true), dtype=torch.float64)[::8]]
    for direction in directions:
        along = estimates @ direction
        error = along.std() / len(along) ** 0.5
        assert abs(along.mean() - true @ direction) < 3 * error
    observed = torch.tensor(rewards, dtype=torch.float64)
    error = observed.std() / len(observed) ** 0.5
    assert abs(observed.mean() - float(expected_reward(case).detach())) < 3 * error


def test_the_papers_credit_is_exact_where_keypoints_do_not_compete() -> None:
    case = Case(cells=1, seed=1)
    true = torch.autograd.grad(expected_reward(case), case.parameters)
    for exact, own in zip(true, expected_estimate(case, "own"), strict=True):
        torch.testing.assert_close(own, exact, rtol=0, atol=1e-12)


def test_the_papers_credit_is_biased_where_they_do(case: Case, exact: list[Tensor]) -> None:
    own = expected_estimate(case, "own")
    assert (own[0] - exact[0]).abs().max() > 1e-2
    # The descriptors' part has no score function and is exact.
    torch.testing.assert_close(own[2], exact[2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("theta", [1.0, 15.0, 50.0])
def test_what_a_keypoint_takes_is_what_the_others_earn_without_it(theta: float) -> None:
    generator = torch.Generator().manual_seed(2)
    descriptors = [
        torch.nn.functional.normalize(
            torch.randn(n, 8, generator=generator, dtype=torch.float64), dim=1
        )
        for n in (7, 5)
    ]
    rewards = torch.randn(7, 5, generator=generator, dtype=torch.float64)

    def earned(*rows: int) -> Tensor:
        forth, back = match_log_probabilities(descriptors[0][list(rows)], descriptors[1], theta)
        return ((forth + back).exp() * rewards[list(rows)]).sum()

    forth, back = match_log_probabilities(*descriptors, theta)
    matrix = (forth + back).exp() * rewards
    taken = taken_from_others(matrix, back.exp()).sum(dim=1)
    for k in range(7):
        without = earned(*(i for i in range(7) if i != k))
        torch.testing.assert_close(without - (matrix.sum() - matrix[k].sum()), taken[k])


def test_an_almost_sure_match_keeps_its_precision_in_float32() -> None:
    # Two equal features and two others: picked so surely that 1 - p is 0 in float32.
    first = torch.eye(3)[:2]
    forth, back = match_log_probabilities(first, torch.eye(3)[:2], 50.0)
    assert float(back.exp()[0, 0]) == 1.0
    taken = taken_from_others((forth + back).exp(), back.exp())
    double = [one.double() for one in match_log_probabilities(first.double(), first.double(), 50.0)]
    expected = taken_from_others(sum(double).exp(), double[1].exp())
    torch.testing.assert_close(taken, expected.float(), rtol=1e-3, atol=1e-12)


def test_images_without_keypoints_give_no_gradient(case: Case) -> None:
    none = case.features(0, [])
    gradients, reward = estimate(case, none, case.features(1, [(0, 0)]), "exact")
    assert reward == PENALTY
    assert not gradients[0].any()
    assert gradients[1].any()  # the keypoint's penalty


def test_an_unknown_credit_or_affinity_is_an_error(case: Case) -> None:
    with pytest.raises(DiskHlocError, match="credit"):
        estimate(case, case.features(0, []), case.features(1, []), "none")
    with pytest.raises(DiskHlocError, match="affinity"):
        match_log_probabilities(torch.eye(2), torch.eye(2), THETA, "manhattan")


def test_gradients_reach_the_network_as_if_all_pairs_were_held_at_once() -> None:
    torch.manual_seed(3)
    base = torch.randn(3, 4, 8, dtype=torch.float64, requires_grad=True)
    xy = torch.arange(8).reshape(4, 2)

    def features() -> list[Features]:
        return [
            Features(xy, one.sum(1).sigmoid().log(), torch.nn.functional.normalize(one, dim=1))
            for one in base
        ]

    rewards = torch.randn(4, 4, dtype=torch.float64)

    def loss(*pair: Tensor) -> tuple[Tensor, object]:
        return pair_loss(*pair, inverse_temperature=THETA, keypoint_penalty=PENALTY)

    surrogate, figures = backward_pairs([features()], [[NOWHERE] * 3], lambda *_: rewards, loss)
    (by_pairs,) = torch.autograd.grad(surrogate, base)
    one, two, three = features()
    together = sum(loss(*pair, rewards)[0] for pair in ((one, two), (one, three), (two, three)))
    (at_once,) = torch.autograd.grad(together, base)
    assert len(figures) == 3
    torch.testing.assert_close(by_pairs, at_once)
