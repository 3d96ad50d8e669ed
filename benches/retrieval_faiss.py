"""HNSW of faiss-cpu over FOLDER/items.f32, asked FOLDER/queries.f32 (64 floats a row).

Prints lines of: what, recall@100 of inner products, microseconds a query on one thread.
"""

import sys
import time

import faiss
import numpy as np

folder = sys.argv[1]
items, queries = (
    np.fromfile(f"{folder}/{name}.f32", dtype="<f4").reshape(-1, 64) for name in ("items", "queries")
)
flat = faiss.IndexFlatIP(64)
flat.add(items)
_, exact = flat.search(queries, 100)
exact = [set(row) for row in exact]
del flat

# Graphs of inner products fall apart where lengths differ. With a component that makes all items
# equally long, the nearest by distance are the best by inner product (Bachrach et al. 2014).
squares = (items**2).sum(1, keepdims=True)
items = np.hstack([items, np.sqrt(squares.max() - squares)]).astype("<f4")
queries = np.hstack([queries, np.zeros((len(queries), 1), "<f4")])

index = faiss.IndexHNSWFlat(65, 32, faiss.METRIC_L2)
index.hnsw.efConstruction = 80
begun = time.perf_counter()
index.add(items)
build = time.perf_counter() - begun
faiss.omp_set_num_threads(1)
for ef in (100, 150, 200, 400, 800, 1600, 3200):
    index.hnsw.efSearch = ef
    begun = time.perf_counter()
    # One by one, as requests come.
    found = [index.search(query[None], 100)[1][0] for query in queries]
    micros = (time.perf_counter() - begun) * 1e6 / len(queries)
    recall = np.mean([len(a & set(b)) / 100 for a, b in zip(exact, found)])
    print(f"faiss HNSW32, ef {ef}, built in {build:.0f} s\t{recall:.4f}\t{micros:.1f}")
    if recall > 0.98:
        break
