from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import unit_vectors

from headrace.models.embeddings import DIM
from headrace.serving.index import kmeans, lists
from headrace.serving.index.layout import Layout
from headrace.serving.index.lists import Lists, laid_out
from headrace.serving.index.quantised import Quantised
from headrace.serving.index.scan import Rows
from headrace.serving.index.signed_scan import SignedRows
from headrace.serving.index.signs import TOGETHER, Signs, signs_of, turned

F32 = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


class Rowed:
    """Vectors in lists, with their signs."""

    def __init__(self, vectors: F32, count: int) -> None:
        centroids = kmeans.train(vectors, count)
        order, self.layout = laid_out(kmeans.assign(Quantised.of(vectors), centroids), centroids)
        self.vectors = vectors[order]
        self.quantised = Quantised.of(self.vectors)
        self.dead = np.zeros(len(vectors) // 8 + 1, np.uint8)
        self.rows = Rows(*self.quantised, self.dead)
        self.signs = Signs.of(self.quantised, self.layout)

    def ranges(self, query: F32) -> tuple[F32, F32, F32]:
        """Return begins, ends and centres of all lists, nearest first."""
        products = self.layout.directions.vectors(np.arange(len(self.layout.centroids))) @ query
        order = np.argsort(-products)
        return self.layout.starts[:-1][order], self.layout.starts[1:][order], products[order]

    def search(
        self, query: F32, k: int, margin: float, *, plain: bool = False
    ) -> tuple[list[int], list[float]]:
        begins, ends, centres = self.ranges(query)
        signed = SignedRows(self.rows, *self.signs, plain)
        n = len(self.vectors)
        rows, products = signed.nearest(query, turned(query), begins, ends, centres, k, 2 * k, n, margin)
        return rows.tolist(), products.tolist()

    def compared(self, query: F32, k: int) -> tuple[list[int], list[float]]:
        begins, ends, _ = self.ranges(query)
        rows, products = self.rows.nearest(query, begins, ends, k, 2 * k, len(self.vectors))
        return rows.tolist(), products.tolist()


def test_the_rotation_keeps_products() -> None:
    some, others = unit_vectors(20, 1), unit_vectors(20, 2)
    np.testing.assert_allclose(turned(some) @ turned(others).T, some @ others.T, atol=1e-6)
    mixed = np.abs(turned(np.eye(DIM, dtype=np.float32)))
    assert mixed.max() < 0.6, "no coordinate stays nearly alone"


def test_vectors_in_few_dimensions_are_found_as_others_are() -> None:
    """Also where these are sums of rows of the matrix that turns them."""
    few = np.eye(DIM, dtype=np.float32)[:4], _hadamard()[:4]
    for rows in few:
        raw = np.random.default_rng(1).standard_normal((6000, 4)).astype(np.float32) @ rows
        world, found = Rowed(raw / np.linalg.norm(raw, axis=1, keepdims=True), 32), []
        for query in world.vectors[::300]:
            best = set(world.compared(query, 100)[0])
            found.append(len(best & set(world.search(query, 100, lists._MARGIN)[0])))
        assert np.mean(found) >= 97


def _hadamard() -> F32:
    out = np.ones((1, 1), np.float32)
    while len(out) < DIM:
        out = np.block([[out, out], [out, -out]])
    return out


def test_estimates_are_as_good_as_documented() -> None:
    world = Rowed(unit_vectors(4000, 3), 20)
    codes = np.unpackbits(world.signs.blocks.transpose(0, 3, 1, 2), axis=3, bitorder="little")
    first, second = np.moveaxis(2.0 * codes.reshape(-1, 2, DIM) - 1, 1, 0)
    lists_of = np.repeat(np.arange(20), np.diff(world.layout.starts))
    centres = world.layout.directions.vectors(np.arange(20))[lists_of]
    sizes = world.signs.sizes[:4000]
    errors = []
    for query in unit_vectors(50, 4):
        estimates = centres @ query + sizes * ((2 * first + second)[:4000] @ turned(query))
        errors.append((estimates - world.vectors @ query) / sizes)
    assert 0.6 < np.std(errors) < 0.7
    assert abs(np.mean(errors)) < 0.02


@settings(deadline=None, max_examples=60)
@given(n=st.integers(40, 700), seed=st.integers(0, 10**6), k=st.integers(1, 40), margin=st.floats(0, 3))
def test_wide_registers_change_nothing(n: int, seed: int, k: int, margin: float) -> None:
    """Lists begin and end anywhere in a block of signs; some rows are dead, some have no vector."""
    rng = np.random.default_rng(seed)
    world = Rowed(unit_vectors(n, seed), 1 + int(rng.integers(1, 20)))
    world.quantised.scale[rng.integers(0, n, 3)] = 0
    world.dead[:] = rng.integers(0, 256, len(world.dead)) & rng.integers(0, 256, len(world.dead))
    query = 3 * unit_vectors(1, seed + 1)[0]
    assert world.search(query, k, margin) == world.search(query, k, margin, plain=True)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(40, 700), seed=st.integers(0, 10**6), k=st.integers(1, 40))
def test_with_a_wide_margin_it_is_the_whole_comparison(n: int, seed: int, k: int) -> None:
    world = Rowed(unit_vectors(n, seed), 7)
    world.dead[:] = np.random.default_rng(seed).integers(0, 256, len(world.dead))
    query = unit_vectors(1, seed + 1)[0]
    assert world.search(query, k, 8.0) == world.compared(query, k)


def test_hardly_any_of_the_nearest_are_missed() -> None:
    world, found = Rowed(unit_vectors(20_000, 5), 64), []
    for query in unit_vectors(30, 6):
        best = set(world.compared(query, 100)[0])
        found.append(len(best & set(world.search(query, 100, lists._MARGIN)[0])))
    assert np.mean(found) >= 99


def test_rows_at_their_centre_and_rows_alike() -> None:
    vectors = np.repeat(unit_vectors(3, 8), 50, axis=0)
    order, layout = laid_out(np.repeat(np.arange(3, dtype=np.int32), 50), unit_vectors(3, 8))
    signs = Signs.of(Quantised.of(vectors[order]), layout)
    assert (signs.sizes < 1e-3).all(), "only the rounding of 16 bits is left"
    index = Lists(Quantised.of(vectors[order]), layout, most=149)
    rows, _ = index.search(vectors[60], 20)
    assert rows.tolist() == list(range(99, 79, -1))


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 128 * TOGETHER + 5])
def test_signs_come_in_blocks_of_rows(n: int) -> None:
    vectors = Quantised.of(unit_vectors(n, 9))
    layout = Layout(unit_vectors(2, 10), np.array([0, n // 2, n]))
    signs = Signs.of(vectors, layout)
    count = -(-n // TOGETHER)
    assert signs.blocks.shape == (count, 2, 8, TOGETHER)
    assert signs.sizes.shape == (count * TOGETHER,)
    assert (signs.sizes[:n] > 0).all()
    assert not signs.sizes[n:].any()
    assert sum(len(part.blocks) for part in signs_of(vectors, layout)) == count


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    world = Rowed(unit_vectors(100, 11), 3)
    with pytest.raises(ValueError, match="100 rows, blocks of signs"):
        SignedRows(world.rows, world.signs.blocks[:-1], world.signs.sizes)
    with pytest.raises(ValueError, match="96 sizes"):
        SignedRows(world.rows, world.signs.blocks, world.signs.sizes[:-32])
    signed, query = SignedRows(world.rows, *world.signs), unit_vectors(1, 1)[0]
    one, end = np.zeros(1, np.int64), np.array([101])
    with pytest.raises(ValueError, match="rows 0 to 101 of 100"):
        signed.nearest(query, query, one, end, np.zeros(1, np.float32), 5, 5, 100, 1.0)
    with pytest.raises(ValueError, match="2 centres"):
        signed.nearest(query, query, one, end, np.zeros(2, np.float32), 5, 5, 100, 1.0)
