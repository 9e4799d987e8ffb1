"""VLAD: against its definition, and what it does not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disk_hloc.errors import DiskHlocError
from disk_hloc.models.vlad import describe, learn_codebook
from support.errors import one_line_error

sizes = {
    "count": st.integers(0, 40),
    "clusters": st.integers(1, 9),
    "length": st.integers(2, 12),
    "seed": st.integers(0, 999),
}


def drawn(count: int, clusters: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(D, N) unit descriptors and a (K, D) codebook."""
    random = np.random.default_rng(seed)
    descriptors = random.normal(size=(length, count)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=0)
    return descriptors, random.normal(size=(clusters, length)).astype(np.float32) / 3


def by_definition(descriptors: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Jégou's sums and Arandjelović's normalization, one descriptor after the other; then 1."""
    sums = np.zeros(codebook.shape)
    for descriptor in descriptors.T.astype(float):
        distances = [np.linalg.norm(descriptor - centre) for centre in codebook]
        nearest = int(np.argmin(distances))
        sums[nearest] += descriptor - codebook[nearest]
    for row in sums:
        if row.any():
            row /= np.linalg.norm(row)
    if not descriptors.size:
        return np.zeros(codebook.size + 1)
    return np.append(sums.ravel() / np.linalg.norm(sums), 1) / np.sqrt(2)


@given(**sizes)
@settings(deadline=None)
def test_the_definition(count, clusters, length, seed):
    descriptors, codebook = drawn(count, clusters, length, seed)
    found = describe(descriptors, codebook)
    assert found.dtype == np.float32
    assert found.shape == (clusters * length + 1,)
    np.testing.assert_allclose(found, by_definition(descriptors, codebook), atol=2e-5)


@given(**sizes)
@settings(deadline=None)
def test_unit_length_and_each_cluster_counts_alike(count, clusters, length, seed):
    descriptors, codebook = drawn(count, clusters, length, seed)
    found = describe(descriptors, codebook)
    assert np.linalg.norm(found) == pytest.approx(1 if count else 0, abs=1e-5)
    lengths = np.linalg.norm(found[:-1].reshape(codebook.shape), axis=1)
    used = lengths > 0
    np.testing.assert_allclose(lengths[used], (2 * max(used.sum(), 1)) ** -0.5, rtol=1e-5)


@given(**sizes)
@settings(deadline=None)
def test_no_cosine_is_negative(count, clusters, length, seed):
    descriptors, codebook = drawn(max(count, 1), clusters, length, seed)
    found = describe(descriptors, codebook)
    opposite = describe(2 * codebook[:1].T - descriptors, codebook[:1])
    alone = describe(descriptors, codebook[:1])
    # About one centre the differences are each other's negatives.
    assert alone @ opposite == pytest.approx(0, abs=1e-5)
    other = describe(drawn(7, clusters, length, seed + 1)[0], codebook)
    cosine = found[:-1] @ other[:-1] / np.linalg.norm(found[:-1]) / np.linalg.norm(other[:-1])
    assert found @ other == pytest.approx((1 + cosine) / 2, abs=1e-5)


@given(**sizes)
@settings(deadline=None)
def test_neither_order_nor_number_of_the_keypoints_matters(count, clusters, length, seed):
    descriptors, codebook = drawn(count, clusters, length, seed)
    found = describe(descriptors, codebook)
    order = np.random.default_rng(seed).permutation(count)
    np.testing.assert_allclose(describe(descriptors[:, order], codebook), found, atol=2e-5)
    twice = np.concatenate([descriptors, descriptors], axis=1)
    np.testing.assert_allclose(describe(twice, codebook), found, atol=2e-5)


def test_float16_as_features_are_stored():
    descriptors, codebook = drawn(500, 8, 128, seed=0)
    half = descriptors.astype(np.float16)
    np.testing.assert_array_equal(
        describe(half, codebook), describe(half.astype(np.float32), codebook)
    )
    np.testing.assert_allclose(describe(half, codebook), describe(descriptors, codebook), atol=5e-3)


def test_no_features_give_zeros():
    for dtype in (np.float16, np.float32):
        found = describe(np.empty((128, 0), dtype), np.ones((4, 128), np.float32))
        np.testing.assert_array_equal(found, np.zeros(513, np.float32))


def test_a_codebook_has_the_centres_of_separate_clusters():
    random = np.random.default_rng(0)
    centres = np.eye(6, 16) * 5
    descriptors = np.repeat(centres, 200, axis=0) + random.normal(size=(1200, 16)) / 20
    found = learn_codebook(random.permutation(descriptors), 6)
    assert found.dtype == np.float32
    # The centre of each axis is the one that is greatest along it.
    np.testing.assert_allclose(found[found.argmax(axis=0)[:6]], centres, atol=0.05)


def test_a_codebook_depends_on_its_input_and_seed_alone():
    descriptors = drawn(3000, 1, 16, seed=1)[0].T
    first = learn_codebook(descriptors, 10, seed=3)
    np.random.seed(99)
    np.testing.assert_array_equal(learn_codebook(descriptors, 10, seed=3), first)
    assert not np.array_equal(learn_codebook(descriptors, 10, seed=4), first)


@pytest.mark.parametrize("clusters", [0, -1, 8])
def test_clusters_that_cannot_be_made(clusters):
    with pytest.raises(DiskHlocError) as error:
        learn_codebook(np.ones((7, 4), np.float32), clusters)
    assert one_line_error(error, f"{clusters} clusters", "7 descriptors", "model: clusters")
