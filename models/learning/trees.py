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
I64 = npt.NDArray[np.int64]

_CATEGORICAL, _MISSING = 1, 4 | 8  # bits of LightGBM's decision types
_ZERO = np.float32(1e-35)
#: Leaves that ``tree_bits`` has room for.
_LEAVES, _ALL = 32, 0xFFFFFFFF
_INF = int(np.array(np.inf, np.float32).view(np.int32))


class UnlikeError(Exception):
    """The trees have something that is not read here; LightGBM itself must predict."""


def whole(text: str) -> bool:
    """Return whether no tree of a LightGBM model is missing in its text, or cut off."""
    head, *blocks = text.split("\nTree=")
    sizes = [line for line in head.split("\n") if line.startswith("tree_sizes=")]
    return "\nend of trees" in text and all(
        len(s.removeprefix("tree_sizes=").split()) == len(blocks) for s in sizes
    )


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
    count, features
        Number of trees, and of columns that they were trained with.
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
        except (KeyError, ValueError, IndexError, OverflowError) as exc:
            raise UnlikeError(f"not the text of a LightGBM model: {exc!r}") from exc

    def _read(self, text: str) -> None:
        head, *blocks = text.split("\nTree=")
        lines = head.split("\n")
        fields = dict(line.split("=", 1) for line in lines if "=" in line)
        self.features = int(fields["max_feature_idx"]) + 1
        self.slope = _slope(lines, fields)
        read = _Read.of(blocks)
        self.values: F64 = read.values
        self._nodes = read.nodes
        self._roots, self._depths = read.roots, read.depths
        self.count = len(self._roots)
        self.width = int(self._nodes[:, 0].max(initial=-1)) + 1
        self.leaves = np.flatnonzero(self._nodes[:, 2] == np.arange(len(self._nodes)))
        self._bits = Bits.of(read)
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
        with np.errstate(over="ignore"):
            return self._score(sums)

    def _score(self, sums: F64) -> F64:
        """Return ``score``; what is too large for ``np.exp`` becomes infinite."""
        return sums if self.slope is None else 1 / (1 + np.exp(-self.slope * sums))

    def predict(self, x: F32) -> F64:
        """Return the scores as trained, float64 ``(n,)``."""
        return predictions(x, [self])[0]


def predictions(x: F32, every: Sequence[Trees]) -> list[F64]:
    """Return what ``predict`` of each of several models returns: rows are laid out once for all of them."""
    small = [one.by_bits for one in every if one.by_bits is not None]
    found = iter(bit_sums_of_each(np.asarray(x, np.float32), small) if small else [])
    sums = [one.sums(x, one.values) if one.by_bits is None else next(found) for one in every]
    with np.errstate(over="ignore"):  # once: it takes as long as one of the scores
        return [one._score(total) for one, total in zip(every, sums, strict=True)]


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
    def of(cls, read: _Read) -> Bits | None:
        """Return trees that were read; None when one has more than 32 leaves."""
        nodes, trees = read.nodes, len(read.roots)
        if (np.diff(read.roots, append=len(nodes)) > 2 * _LEAVES - 1).any():
            return None
        inner = nodes[:, 2] != np.arange(len(nodes))
        # Leaves under each node, from below; and the place of the first of them in its tree, from above.
        under, first = np.ones(len(nodes), np.int64), np.zeros(len(nodes), np.int64)
        for level in reversed(read.levels):
            under[level] = under[nodes[level, 2]] + under[nodes[level, 3]]
        for level in read.levels:
            left, right = nodes[level, 2], nodes[level, 3]
            first[left], first[right] = first[level], first[level] + under[left]
        lefts = nodes[inner, 2]
        masks = _ALL ^ (((1 << under[lefts]) - 1) << first[lefts])
        found, leaves = np.zeros(_LEAVES * trees, np.int32), np.flatnonzero(~inner)
        found[_LEAVES * read.tree_of[leaves] + first[leaves]] = leaves
        bounds = np.r_[0, np.cumsum(inner)][[*read.roots, len(nodes)]].astype(np.int32)
        thresholds = np.ascontiguousarray(nodes[inner, 1]).view(np.float32)
        return cls(np.ascontiguousarray(nodes[inner, 0]), thresholds, masks.astype(np.uint32), bounds, found)

    def with_values(self, values: F64) -> tuple[I32, F32, npt.NDArray[np.uint32], I32, F64]:
        """Return the trees with values by node ``(m,)``, as ``bit_sums`` reads them."""
        return self.columns, self.thresholds, self.masks, self.bounds, values[self.nodes]

    def sums(self, x: F32, values: F64) -> F64:
        """Return what ``Trees.sums`` returns."""
        return bit_sums(x, *self.with_values(values))

    def find(self, x: F32) -> I32:
        """Return what ``Trees.find`` returns."""
        return bit_leaves(x, self.columns, self.thresholds, self.masks, self.bounds, self.nodes)


def _rows(x: F32) -> F32:
    x = np.ascontiguousarray(x, np.float32)
    return np.nan_to_num(x, nan=0.0, posinf=np.inf, neginf=-np.inf) if np.isnan(x).any() else x


def _slope(lines: Sequence[str], fields: dict[str, str]) -> float | None:
    name, *parameters = fields.get("objective", "").split(" ")
    if "average_output" in lines or fields.get("num_tree_per_iteration") != "1":
        raise UnlikeError("a random forest, or several classes")
    if name == "binary":
        return float(dict(p.split(":") for p in parameters).get("sigmoid", "1"))
    if name in {"lambdarank", "rank_xendcg", "regression"} and "sqrt" not in parameters:
        return None
    raise UnlikeError(f"objective {name!r}")


def _fields(block: str) -> dict[str, str]:
    """Return the fields of a tree."""
    fields = dict(line.split("=", 1) for line in block.split("\n\n", 1)[0].split("\n")[1:] if "=" in line)
    if fields.get("is_linear", "0") != "0" or fields.get("num_cat", "0") != "0":
        raise UnlikeError("linear leaves, or categorical splits")
    return fields


@dataclass(frozen=True, slots=True)
class _Read:
    """Trees as they were read. The nodes of a tree follow one another: inner ones, its root first; leaves.

    Attributes
    ----------
    nodes
        Column, threshold (bits of float32), left and right child, int32 ``(m, 4)``; a leaf is its own child.
    values
        Leaf values by node, ``(m,)``.
    roots, depths
        Of each tree, int32.
    tree_of
        The tree of each node, ``(m,)``.
    levels
        The inner nodes of all trees, by their distance from the root.
    """

    nodes: I32
    values: F64
    roots: I32
    depths: I32
    tree_of: I64
    levels: list[I32]

    @classmethod
    def of(cls, blocks: Sequence[str]) -> _Read:
        """Return the trees of these parts of a text: of all at once, each takes microseconds."""
        each = [_fields(block) for block in blocks]
        leaf_values = [fields["leaf_value"].split() for fields in each]
        inner = np.array([len(values) - 1 for values in leaf_values], np.int64)
        sizes = 2 * inner + 1
        roots = np.cumsum(sizes) - sizes
        tree_of = np.repeat(np.arange(len(each)), sizes)
        at = np.arange(len(tree_of)) - roots[tree_of]  # in its tree
        splits, leaves = np.flatnonzero(at < inner[tree_of]), np.flatnonzero(at >= inner[tree_of])
        values, nodes = np.zeros(len(at)), np.zeros((len(at), 4), np.int32)
        values[leaves] = np.array([v for some in leaf_values for v in some], np.float64)
        nodes[leaves, 1] = _INF
        nodes[leaves, 2] = nodes[leaves, 3] = leaves
        larger = [(fields, int(n)) for fields, n in zip(each, inner, strict=True) if n]
        column, decision, left, right = (
            np.array(_column(larger, name), np.int64)
            for name in ("split_feature", "decision_type", "left_child", "right_child")
        )
        root, own, most = roots[tree_of[splits]], at[splits], inner[tree_of[splits]]
        for child in (left, right):
            if ((child >= 0) & (child <= own)).any():
                raise UnlikeError("a node that is not after its parent")
            if ((child < -most - 1) | (child >= most)).any():
                raise UnlikeError("a node that is missing, or there twice")
        if (column < 0).any():
            raise UnlikeError("a column below 0")
        if (decision & (_CATEGORICAL | _MISSING)).any():
            raise UnlikeError("categorical splits, or missing values")
        nodes[splits, 0] = column
        nodes[splits, 1] = _not_above(np.array(_column(larger, "threshold"), np.float64)).view(np.int32)
        for place, child in ((2, left), (3, right)):
            nodes[splits, place] = root + np.where(child >= 0, child, most + ~child)
        parents = np.bincount(nodes[splits, 2:].ravel(), minlength=len(at))
        parents[roots] += 1
        if (parents != 1).any():
            raise UnlikeError("a node that is missing, or there twice")
        depths, levels = np.zeros(len(each), np.int32), list[I32]()
        level = roots[inner > 0].astype(np.int32)
        while len(level):
            levels.append(level)
            depths[tree_of[level]] = len(levels)
            below = nodes[level, 2:].ravel()
            level = below[nodes[below, 2] != below]
        return cls(nodes, values, roots.astype(np.int32), depths, tree_of, levels)


def _column(trees: Sequence[tuple[dict[str, str], int]], name: str) -> list[str]:
    """Return a field of the inner nodes of all trees; trees are fields, and how many such nodes there are."""
    out = list[str]()
    for fields, n in trees:
        values = fields[name].split()
        if len(values) != n:
            raise UnlikeError(f"{len(values)} values of {name} for {n} nodes")
        out += values
    return out


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
