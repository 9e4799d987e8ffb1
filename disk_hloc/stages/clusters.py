"""Divide photos into clusters that are mapped apart, and joined by the photos that they share.

The graph of verified pairs is cut where few matches cross it, again and again (Shi, Malik,
"Normalized cuts and image segmentation", PAMI 2000), and each cluster gets the photos of some
neighbours that match it best, as COLMAP's hierarchical mapper does (Schönberger, Frahm, CVPR 2016).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.sparse.linalg import eigsh

# Of both parts of a cut, the smaller one has this share of the photos at least.
_BALANCE = 1 / 3
# A cluster takes photos of this many neighbours, which share the most matches with it. Where photos
# are dense it has many more, whose photos it would map once more each.
_NEIGHBOURS = 2
# Neighbours that share less than this part of what a cluster shares with the nearest one lend it no
# photos.
_WEAK = 0.1
# Smaller graphs are solved by a dense method, which eigsh needs for its smallest matrices.
_DENSE = 32


def clusters(
    matches: Mapping[tuple[int, int], int], size: int, shared: int
) -> list[tuple[list[int], list[int]]]:
    """Divide a graph.

    Args:
        matches: pairs of nodes -> their number of matches, at least 1.
        size: the most nodes of a cluster, at least 2.
        shared: how many nodes a cluster takes from a neighbour.

    Returns:
        The nodes of each cluster, and those that it takes from others; both sorted. A node belongs
        to one cluster, whose nodes are connected, and may be taken by others.
    """
    nodes = sorted({node for pair in matches for node in pair})
    graph = _graph(nodes, matches)
    _, part_of = connected_components(graph, directed=False)
    parts = [np.flatnonzero(part_of == part) for part in range(part_of.max(initial=-1) + 1)]
    found: list[np.ndarray] = []
    while parts:
        part = parts.pop()
        if len(part) <= size:
            found.append(part)
        else:
            parts += _cut(graph, part)
    found.sort(key=lambda part: int(part[0]))
    return [
        ([nodes[i] for i in own], [nodes[i] for i in taken])
        for own, taken in zip(found, _taken(graph, found, shared), strict=True)
    ]


def _graph(nodes: list[int], matches: Mapping[tuple[int, int], int]) -> csr_array:
    number = {node: i for i, node in enumerate(nodes)}
    rows = [number[first] for first, _ in matches]
    columns = [number[second] for _, second in matches]
    weights = np.array(list(matches.values()), np.float64)
    graph = csr_array((weights, (rows, columns)), shape=(len(nodes), len(nodes)))
    return csr_array(graph + graph.T)


def _cut(graph: csr_array, part: np.ndarray) -> list[np.ndarray]:
    """Cut a connected part of a graph in two; pieces that fall off are parts of their own."""
    inside = graph[part][:, part]
    order = np.argsort(_fiedler(inside), kind="stable")
    ordered = inside[order][:, order].tocoo()
    degrees = np.bincount(ordered.row, ordered.data, len(part))
    earlier = ordered.row > ordered.col
    to_earlier = np.bincount(ordered.row[earlier], ordered.data[earlier], len(part))
    # What crosses the cut behind each node, relative to what the nodes on both sides have.
    least = max(1, int(_BALANCE * len(part)))
    choices = slice(least - 1, len(part) - least)
    crossing = np.cumsum(degrees - 2 * to_earlier)[choices]
    volume = np.cumsum(degrees)[choices]
    cost = crossing / volume + crossing / (degrees.sum() - volume)
    first = least + int(np.argmin(cost))
    pieces = []
    for side in (np.sort(order[:first]), np.sort(order[first:])):
        _, piece_of = connected_components(inside[side][:, side], directed=False)
        pieces += [part[side[piece_of == piece]] for piece in range(piece_of.max() + 1)]
    return pieces


def _fiedler(graph: csr_array) -> np.ndarray:
    """Return the second eigenvector of the normalized Laplacian of a connected graph."""
    scale = 1 / np.sqrt(graph.sum(axis=1))
    normalized = diags_array(scale) @ graph @ diags_array(scale)
    if graph.shape[0] <= _DENSE:
        vectors = np.linalg.eigh(normalized.toarray())[1]
        return scale * vectors[:, -2]
    # The largest eigenvalue is 1, that of the square roots of the degrees: the start is not it.
    start = np.random.default_rng(0).standard_normal(graph.shape[0])
    values, vectors = eigsh(normalized, k=2, which="LA", v0=start)
    return scale * vectors[:, np.argmin(values)]


def _taken(graph: csr_array, parts: list[np.ndarray], shared: int) -> list[np.ndarray]:
    """Return the nodes that each part takes from its neighbours: those with the most matches."""
    part_of = np.empty(graph.shape[0], int)
    for number, part in enumerate(parts):
        part_of[part] = number
    ones = np.ones(len(part_of), graph.dtype)
    membership = csr_array((ones, (np.arange(len(part_of)), part_of)), (len(part_of), len(parts)))
    between = (membership.T @ graph @ membership).toarray()
    np.fill_diagonal(between, 0)
    found = []
    for part, lenders in zip(parts, _lenders(between), strict=True):
        strength = np.asarray(graph[part].sum(axis=0)).ravel()
        chosen: list[int] = []
        for lender in lenders:
            theirs = parts[lender]
            best = theirs[np.argsort(-strength[theirs], kind="stable")[:shared]]
            chosen += best[strength[best] > 0].tolist()
        found.append(np.array(sorted(chosen), int))
    return found


def _lenders(between: np.ndarray) -> list[list[int]]:
    """Return the parts from which each part takes nodes.

    These are its strongest neighbours, and as many more as it takes to join all parts that are
    connected.

    Args:
        between: (P, P) matches between parts, 0 on the diagonal.
    """
    order = np.argsort(-between, axis=1, kind="stable")[:, :_NEIGHBOURS]
    chosen = [
        [other for other in others if shared[other] > _WEAK * shared.max()]
        for shared, others in zip(between, order.tolist(), strict=True)
    ]
    tree = minimum_spanning_tree(csr_array(-between)).tocoo()
    for first, second in zip(tree.row.tolist(), tree.col.tolist(), strict=True):
        if second not in chosen[first] and first not in chosen[second]:
            chosen[first].append(second)
    return chosen
