"""Our vector index beside libraries, on vectors like ours: recall, query time, building, size, opening.

    python bench/bench_ann.py [--items N] [--queries N] [--only names]      # prints one JSON object

``ours`` is ``serving/index/lists.py``. hnswlib, usearch and faiss-cpu are measured where they are installed
(``pip install hnswlib usearch faiss-cpu``). For each: the share of the true 300 nearest that was found,
milliseconds of CPU of a query on one thread, microseconds of CPU of an item to build (two threads together),
bytes of an item on disk, and milliseconds to open the file (mapped where the library can).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from retrieval.catalogs import BLOCK, Nearest, blocks, queries, recall

from headrace.models.embeddings import DIM
from headrace.serving.index import kmeans
from headrace.serving.index.lists import Lists, laid_out, plan
from headrace.serving.index.quantised import Quantised
from headrace.serving.index.signs import Signs

K = 300
#: A function that returns the numbers of the items nearest to a vector.
Search = Callable[[np.ndarray], np.ndarray]
#: Builds an index in a file, and returns a function that opens it.
Build = Callable[[np.ndarray, Path], Callable[[], Search]]


def ours(vectors: np.ndarray, path: Path) -> Callable[[], Search]:
    """Build lists by direction; two bits a coordinate are compared, then int8, the best again in 16."""
    centroids = plan(vectors, len(vectors), 2)
    order, layout = laid_out(kmeans.assign(Quantised.of(vectors), centroids, 2), centroids)
    rows = Quantised.of(vectors[order])
    columns = {**rows._asdict(), **Signs.of(rows, layout)._asdict(), "order": order, "starts": layout.starts}
    for name, values in (columns | {"centroids": centroids}).items():
        np.save(path / f"{name}.npy", values)

    def opened() -> Search:
        maps = {name: np.load(path / f"{name}.npy", mmap_mode="r") for name in columns}
        signs = Signs(maps["blocks"], maps["sizes"])
        index = Lists(Quantised(maps["high"], maps["low"], maps["scale"]), layout, signs=signs)
        return lambda query: maps["order"][index.search(query, K)[0]]

    return opened


def hnsw(vectors: np.ndarray, path: Path) -> Callable[[], Search]:
    """Build a graph of float32 (hnswlib). It is read into memory."""
    import hnswlib

    index = hnswlib.Index(space="ip", dim=DIM)
    index.init_index(len(vectors), M=16, ef_construction=100, random_seed=7)
    index.add_items(vectors, num_threads=2)
    index.save_index(str(path / "index"))

    def opened() -> Search:
        index = hnswlib.Index(space="ip", dim=DIM)
        index.load_index(str(path / "index"))
        index.set_ef(K)
        return lambda query: index.knn_query(query[None, :], k=K, num_threads=1)[0][0]

    return opened


def usearch(dtype: str) -> Build:
    """Return what builds a graph of 16 or 8 bits (usearch). It is mapped."""

    def build(vectors: np.ndarray, path: Path) -> Callable[[], Search]:
        from usearch.index import Index

        index = Index(ndim=DIM, metric="ip", dtype=dtype, connectivity=16, expansion_add=100)
        index.add(np.arange(len(vectors)), vectors, threads=2)
        index.save(str(path / "index"))

        def opened() -> Search:
            index = Index(ndim=DIM, metric="ip", dtype=dtype, connectivity=16, expansion_search=K)
            index.view(str(path / "index"))
            return lambda query: index.search(query, K, threads=1).keys

        return opened

    return build


def faiss(kind: str, probe: float, mapped: bool, again: bool = False) -> Build:
    """Return what builds inverted lists (faiss), of which a share ``probe`` is searched.

    ``again``: three times as many are found, and compared in 16 bits. A fast-scan index cannot be mapped.
    """

    def build(vectors: np.ndarray, path: Path) -> Callable[[], Search]:
        import faiss

        faiss.omp_set_num_threads(2)
        lists = 1 << int(np.log2(len(vectors) / 200))
        index = faiss.index_factory(DIM, f"IVF{lists},{kind}", faiss.METRIC_INNER_PRODUCT)
        index.cp.max_points_per_centroid, index.cp.niter = 40, 6
        index.train(vectors)
        index.add(vectors)
        faiss.write_index(index, str(path / "index"))
        exact = Quantised.of(vectors)
        if again:
            np.savez(path / "exact.npz", **exact._asdict())

        def opened() -> Search:
            flags = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY if mapped else 0
            index = faiss.read_index(str(path / "index"), flags)
            index.nprobe = int(lists * probe)
            faiss.omp_set_num_threads(1)

            def search(query: np.ndarray) -> np.ndarray:
                found: np.ndarray = index.search(query[None, :], 3 * K if again else K)[1][0]
                if again:
                    found = found[found >= 0]
                    found = found[np.argsort(-(exact.vectors(found) @ query))[:K]]
                return found

            return search

        return opened

    return build


BUILDS: dict[str, tuple[str | None, Build]] = {
    "ours": (None, ours),
    "hnswlib f32": ("hnswlib", hnsw),
    "usearch bf16": ("usearch", usearch("bf16")),
    "usearch f16": ("usearch", usearch("f16")),
    "usearch i8": ("usearch", usearch("i8")),
    "faiss IVF,SQ8": ("faiss", faiss("SQ8", 0.1, mapped=True)),
    "faiss IVF,SQfp16": ("faiss", faiss("SQfp16", 0.1, mapped=True)),
    "faiss IVF,PQ32x4fs + 16 bits": ("faiss", faiss("PQ32x4fs", 0.1, mapped=False, again=True)),
}


def measure(build: Build, vectors: np.ndarray, asked: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Build, open and search an index; return its figures."""
    with tempfile.TemporaryDirectory(prefix="headrace-ann-") as folder:
        path, n = Path(folder), len(vectors)
        cpu, wall = time.process_time(), time.perf_counter()
        opened = build(vectors, path)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        disk = sum(file.stat().st_size for file in path.iterdir())
        begun = time.perf_counter()
        search = opened()
        open_ms = 1000 * (time.perf_counter() - begun)
        spent, found = list[float](), list[np.ndarray]()
        for query in [*asked, *asked]:
            begun = time.process_time()
            found.append(search(query))
            spent.append(1000 * (time.process_time() - begun))
    spent, found = spent[len(asked) :], found[len(asked) :]  # the first round reads the files
    return {
        "recall_at_300": round(recall(found, truth), 4),
        "query_cpu_p50_ms": round(float(np.median(spent)), 2),
        "query_cpu_p99_ms": round(float(np.quantile(spent, 0.99)), 2),
        "build_cpu_us_an_item": round(1e6 * cpu / n, 1),
        "build_s": round(wall, 1),
        "disk_bytes_an_item": round(disk / n),
        "open_ms": round(open_ms, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--only", default="", help="comma between names")
    args = parser.parse_args()
    vectors = np.concatenate(list(blocks(args.items)))
    asked = queries(vectors, args.queries)
    nearest = Nearest(asked, K)
    for first in range(0, args.items, BLOCK):
        nearest.add(vectors[first : first + BLOCK], first)
    out: dict[str, Any] = {"items": args.items}
    for name, (library, build) in BUILDS.items():
        if args.only and name not in args.only.split(","):
            continue
        if library and importlib.util.find_spec(library) is None:
            print(f"{name}: {library} is not installed", file=sys.stderr)
            continue
        out[name] = measure(build, vectors, asked, nearest.items)
        print(name, out[name], file=sys.stderr)
    print(json.dumps(out))


if __name__ == "__main__":
    main()
