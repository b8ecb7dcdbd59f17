"""The trees of a LightGBM model as arrays: the scores are LightGBM's, in a fraction of its time for 500 rows.

Their leaf values are apart from the trees, so that they can move (`leaves`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace.models.learning.leaf_steps import leaves_of, sums_of
from headrace.models.learning.tree_bits import bit_leaves, bit_sums, bit_sums_of_each

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]

_CATEGORICAL, _MISSING = 1, 4 | 8  # bits of LightGBM's decision types
_ZERO = np.float32(1e-35)
#: Leaves that ``tree_bits`` has room for.
_LEAVES, _ALL = 32, 0xFFFFFFFF
_INF = int(np.array(np.inf, np.float32).view(np.int32))


class UnlikeError(Exception):
    """The trees have something that is not read here; LightGBM itself must predict."""


class Trees:
    """Trees with numerical splits, whose sum is the score, or the log-odds of it.

    Parameters
    ----------
    text
        A LightGBM model.

    Attributes
    ----------
    values
        By node, as trained, float64 ``(m,)``; 0 for nodes that are no leaves.
    leaves
        Which nodes are leaves, int ``(n_leaves,)``.
    width
        Columns that rows must have at least.
    count
        Number of trees.
    slope
        What the sum is multiplied by before the sigmoid; None: it is the score.
    by_bits
        The trees as trained, as ``bit_sums_of_each`` reads them; None when one is too large for that.

    Raises
    ------
    UnlikeError
        Categorical splits, missing values, linear leaves, several classes, random forests, other objectives;
        or no LightGBM model at all.
    """

    def __init__(self, text: str) -> None:
        try:
            self._read(text)
        except (KeyError, ValueError, IndexError) as exc:
            raise UnlikeError(f"not the text of a LightGBM model: {exc!r}") from exc

    def _read(self, text: str) -> None:
        head, *blocks = text.split("\nTree=")
        self.slope = _slope(head)
        rows: list[npt.NDArray[np.int64]] = []
        values, roots, depths, at = [np.zeros(0)], [], [], 0
        for block in blocks:
            nodes, leaf_values, depth = _tree(block, at)
            rows.append(nodes)
            values += [np.zeros(len(nodes) - len(leaf_values)), leaf_values]
            roots.append(at)
            depths.append(depth)
            at += len(nodes)
        self.values: F64 = np.concatenate(values)
        self._nodes = np.concatenate(rows).astype(np.int32) if rows else np.zeros((0, 4), np.int32)
        self._roots, self._depths = np.array(roots, np.int32), np.array(depths, np.int32)
        self.count = len(roots)
        self.width = int(self._nodes[:, 0].max(initial=-1)) + 1
        self.leaves = np.flatnonzero(self._nodes[:, 2] == np.arange(at))
        self._bits = Bits.of(self._nodes, roots)
        self.by_bits = None if self._bits is None else self._bits.with_values(self.values)

    def sums(self, x: F32, values: F64) -> F64:
        """Return the sums of leaf values, float64 ``(n,)``, for rows ``(n, width)``."""
        if self._bits is not None:
            return self._bits.sums(np.asarray(x, np.float32), values)
        return sums_of(_rows(x), self._nodes, self._roots, self._depths, values)

    def find(self, x: F32) -> I32:
        """Return the node of the leaf of each tree that each row falls into, int32 ``(n, trees)``."""
        if self._bits is not None:
            return self._bits.find(np.asarray(x, np.float32))
        return leaves_of(_rows(x), self._nodes, self._roots, self._depths)

    def score(self, sums: F64) -> F64:
        """Return what LightGBM makes of sums ``(n,)``: probabilities, or the sums themselves."""
        if self.slope is None:
            return sums
        with np.errstate(over="ignore"):
            out: F64 = 1 / (1 + np.exp(-self.slope * sums))
        return out

    def predict(self, x: F32) -> F64:
        """Return the scores as trained, float64 ``(n,)``."""
        return predictions(x, [self])[0]


def predictions(x: F32, every: Sequence[Trees]) -> list[F64]:
    """Return what ``predict`` of each of several models returns: rows are laid out once for all of them."""
    small = [one.by_bits for one in every if one.by_bits is not None]
    found = iter(bit_sums_of_each(np.asarray(x, np.float32), small) if small else [])
    sums = [one.sums(x, one.values) if one.by_bits is None else next(found) for one in every]
    return [one.score(total) for one, total in zip(every, sums, strict=True)]


@dataclass(frozen=True, slots=True)
class Bits:
    """Small trees as ``tree_bits`` reads them.

    Attributes
    ----------
    columns, thresholds, masks, bounds
        See ``bit_sums``.
    nodes
        The node of the leaf at each place, int32 ``(32 * trees,)``.
    """

    columns: I32
    thresholds: F32
    masks: npt.NDArray[np.uint32]
    bounds: I32
    nodes: I32

    @classmethod
    def of(cls, nodes: I32, roots: Sequence[int]) -> Bits | None:
        """Return the trees that begin at some nodes; None when one has more than 32 leaves."""
        inner = nodes[:, 2] != np.arange(len(nodes))
        children, splits, ends = nodes[:, 2:].tolist(), inner.tolist(), [*roots[1:], len(nodes)]
        masks, found = np.zeros(len(nodes), np.uint32), np.zeros(_LEAVES * len(roots), np.int32)
        for t, (root, end) in enumerate(zip(roots, ends, strict=True)):
            if end - root > 2 * _LEAVES - 1:
                return None
            places = _places(root, children, splits)
            found[_LEAVES * t : _LEAVES * t + len(places)] = places
            where = {leaf: place for place, leaf in enumerate(places)}
            for node in range(root, end):
                if splits[node]:
                    left = _places(children[node][0], children, splits)
                    masks[node] = _ALL ^ sum(1 << where[leaf] for leaf in left)
        bounds = np.r_[0, np.cumsum(inner)][[*roots, len(nodes)]].astype(np.int32)
        thresholds = np.ascontiguousarray(nodes[inner, 1]).view(np.float32)
        return cls(np.ascontiguousarray(nodes[inner, 0]), thresholds, masks[inner], bounds, found)

    def with_values(self, values: F64) -> tuple[I32, F32, npt.NDArray[np.uint32], I32, F64]:
        """Return the trees with values by node ``(m,)``, as ``bit_sums`` reads them."""
        return self.columns, self.thresholds, self.masks, self.bounds, values[self.nodes]

    def sums(self, x: F32, values: F64) -> F64:
        """Return what ``Trees.sums`` returns."""
        return bit_sums(x, *self.with_values(values))

    def find(self, x: F32) -> I32:
        """Return what ``Trees.find`` returns."""
        return bit_leaves(x, self.columns, self.thresholds, self.masks, self.bounds, self.nodes)


def _places(node: int, children: list[list[int]], splits: Sequence[bool]) -> list[int]:
    """Return the leaves under a node, from left to right."""
    out, waiting = list[int](), [node]
    while waiting:
        node = waiting.pop()
        if splits[node]:
            waiting += reversed(children[node])
        else:
            out.append(node)
    return out


def _rows(x: F32) -> F32:
    x = np.ascontiguousarray(x, np.float32)
    return np.nan_to_num(x, nan=0.0, posinf=np.inf, neginf=-np.inf) if np.isnan(x).any() else x


def _slope(head: str) -> float | None:
    lines = head.split("\n")
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    name, *parameters = fields.get("objective", "").split(" ")
    if "average_output" in lines or fields.get("num_tree_per_iteration") != "1":
        raise UnlikeError("a random forest, or several classes")
    if name == "binary":
        return float(dict(p.split(":") for p in parameters).get("sigmoid", "1"))
    if name in {"lambdarank", "rank_xendcg", "regression"} and "sqrt" not in parameters:
        return None
    raise UnlikeError(f"objective {name!r}")


def _tree(block: str, at: int) -> tuple[npt.NDArray[np.int64], F64, int]:
    """Return the nodes of a tree, whose first one has the number ``at``, its leaf values, and its depth."""
    fields = dict(line.split("=", 1) for line in block.split("\n\n", 1)[0].split("\n")[1:] if "=" in line)
    if fields.get("is_linear", "0") != "0" or fields.get("num_cat", "0") != "0":
        raise UnlikeError("linear leaves, or categorical splits")
    leaf_values = np.array(fields["leaf_value"].split(), np.float64)
    inner = len(leaf_values) - 1
    out = np.zeros((2 * inner + 1, 4), np.int64)
    out[inner:, 1] = _INF
    out[inner:, 2:] = at + np.arange(inner, 2 * inner + 1)[:, None]
    if not inner:
        return out, leaf_values, 0
    column, decision, left, right = (
        np.array(fields[name].split(), np.int64)
        for name in ("split_feature", "decision_type", "left_child", "right_child")
    )
    children, own = np.concatenate([left, right]), np.tile(np.arange(inner), 2)
    if len(children) != 2 * inner or ((children >= 0) & (children <= own)).any():
        raise UnlikeError("a node that is not after its parent")
    if sorted(children.tolist()) != [*range(-inner - 1, 0), *range(1, inner)]:
        raise UnlikeError("a node that is missing, or there twice")
    if (column < 0).any():
        raise UnlikeError("a column below 0")
    if (decision & (_CATEGORICAL | _MISSING)).any():
        raise UnlikeError("categorical splits, or missing values")
    out[:inner, 0] = column
    out[:inner, 1] = _not_above(np.array(fields["threshold"].split(), np.float64)).view(np.int32)
    for place, child in ((2, left), (3, right)):
        out[:inner, place] = at + np.where(child >= 0, child, inner + ~child)
    return out, leaf_values, _depth(left, right)


def _not_above(threshold: F64) -> F32:
    """Return the largest float32 up to each threshold: a float32 is at most the one if at most the other.

    LightGBM reads values nearer to 0 than ``_ZERO`` as 0: so no threshold is among these.
    """
    near = threshold.astype(np.float32)
    below = np.nextafter(near, np.float32(-np.inf))
    near = np.where(near > threshold, below, near)
    near = np.where((near >= 0) & (near < _ZERO), _ZERO, near)
    out: F32 = np.where((near < 0) & (near >= -_ZERO), np.nextafter(-_ZERO, np.float32(-np.inf)), near)
    return out


def _depth(left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> int:
    depth = np.ones(len(left), np.int64)  # a child comes after its parent
    for parent, children in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        for child in children:
            if child >= 0:
                depth[child] = depth[parent] + 1
    return int(depth.max())
