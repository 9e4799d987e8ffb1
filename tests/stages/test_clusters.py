"""Any graph is divided into connected clusters, each node into one."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from disk_hloc.stages.clusters import clusters

graphs = st.dictionaries(
    st.tuples(st.integers(0, 30), st.integers(0, 30)).filter(lambda pair: pair[0] < pair[1]),
    st.integers(1, 500),
    max_size=120,
)


@given(graphs, st.integers(2, 12), st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_each_node_belongs_to_one_connected_cluster(matches, size: int, shared: int) -> None:
    found = clusters(matches, size, shared)
    owned = [node for own, _ in found for node in own]
    assert sorted(owned) == sorted({node for pair in matches for node in pair})
    for own, taken in found:
        assert 1 <= len(own) <= size
        assert own == sorted(own)
        assert taken == sorted(set(taken))
        assert not set(own) & set(taken)
        inside = [pair for pair in matches if set(pair) <= set(own)]
        assert is_connected(own, inside)
        # Each that is taken matches one of the cluster's own.
        assert all(any({node, mine} in map(set, matches) for mine in own) for node in taken)
    # Clusters of a graph are joined by what they take as the graph is.
    joined = [
        (one, other)
        for own, taken in found
        for group in [own + taken]
        for one, other in pairwise(group)
    ]
    assert num_parts(owned, joined) == num_parts(owned, list(matches))


def is_connected(nodes: list[int], pairs: list[tuple[int, int]]) -> bool:
    return num_parts(nodes, pairs) == 1


def num_parts(nodes: list[int], pairs: list[tuple[int, int]]) -> int:
    number = {node: i for i, node in enumerate(nodes)}
    rows, columns = [number[a] for a, _ in pairs], [number[b] for _, b in pairs]
    graph = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(nodes), len(nodes)))
    return connected_components(graph, directed=False)[0]


def test_a_graph_is_cut_where_few_matches_cross() -> None:
    rooms = [range(0, 10), range(10, 20)]
    matches = dict.fromkeys((pair for room in rooms for pair in combinations(room, 2)), 100)
    matches[3, 14] = matches[4, 15] = 20
    assert clusters(matches, 12, 8) == [
        (list(rooms[0]), [14, 15]),
        (list(rooms[1]), [3, 4]),
    ]


def test_a_far_neighbour_lends_nothing() -> None:
    rooms = [range(0, 6), range(6, 12), range(12, 18)]
    matches = dict.fromkeys((pair for room in rooms for pair in combinations(room, 2)), 100)
    # The third room shares much with the second, and next to nothing with the first.
    matches |= {(5, 6): 90, (11, 12): 90, (0, 17): 5}
    found = clusters(matches, 6, 2)
    assert [taken for _, taken in found] == [[6], [5, 12], [11]]


def test_a_cluster_among_many_takes_photos_of_the_nearest_two() -> None:
    rooms = [range(i, i + 4) for i in range(0, 24, 4)]
    matches = dict.fromkeys((pair for room in rooms for pair in combinations(room, 2)), 100)
    matches |= {(0, 4 * i): 50 + i for i in range(1, 6)}
    found = clusters(matches, 4, 2)
    assert [taken for _, taken in found] == [[16, 20], [0], [0], [0], [0], [0]]
