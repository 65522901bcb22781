"""Parquet shards evaluated on a Dask cluster: workers send evaluations, not logits.

    pip install 'dask[distributed]' pyarrow
    python evaluate_dask.py

A shard has a column ``logits`` (lists of K floats) and a column ``label``. The numbers have the bits of
``xent eval --logits 'shards/*.parquet'``. Checks that they have those of one process.
"""

import copy
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xent.metrics import Evaluation


def evaluate(path, classes):
    """The evaluation of one shard, a row group at a time."""
    evaluation = Evaluation(classes)
    for batch in pq.ParquetFile(path).iter_batches(columns=["logits", "label"]):
        logits = batch.column("logits").flatten().to_numpy().reshape(-1, classes)
        labels = batch.column("label").to_numpy()
        # Worker threads are Dask's: one for each call.
        evaluation.update(logits, labels, source=str(path), threads=1)
    return evaluation


def merged(one, other):
    """A new evaluation of both: Dask may use its inputs again."""
    one = copy.deepcopy(one)
    one.merge(other)
    return one


def evaluate_all(client, paths, classes):
    """The evaluation of all shards, merged in pairs on the workers."""
    parts = client.map(evaluate, [str(path) for path in paths], classes=classes)
    while len(parts) > 1:
        pairs = list(zip(parts[::2], parts[1::2]))
        rest = parts[2 * len(pairs) :]
        parts = [client.submit(merged, *pair) for pair in pairs] + rest
    return parts[0].result()


def write_shards(folder, shards=16, rows=200, classes=10):
    """Shards to try it with."""
    generator = np.random.default_rng(0)
    paths = []
    for shard in range(shards):
        logits = generator.normal(size=(rows + shard, classes)).astype(np.float32)
        labels = generator.integers(classes, size=rows + shard)
        logits[np.arange(rows + shard), labels] += 1
        column = pa.FixedSizeListArray.from_arrays(pa.array(logits.ravel()), classes)
        paths.append(Path(folder) / f"shard-{shard:03}.parquet")
        pq.write_table(pa.table({"logits": column, "label": labels}), paths[-1])
    return paths


if __name__ == "__main__":
    from dask.distributed import Client, LocalCluster

    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        paths = write_shards(folder)
        orders = (paths, paths[::-1], paths[1::2] + paths[::2])
        found = [evaluate_all(client, order, classes=10) for order in orders]
        workers = len(client.scheduler_info()["workers"])

        expected = Evaluation(10)
        for path in paths:
            expected.merge(evaluate(path, 10))
    assert all(one.to_bytes() == expected.to_bytes() for one in found)
    rows, shards = expected.rows, len(expected.sources)
    print(f"{rows} rows in {shards} shards on {workers} workers: the same bits")
    for name, value in expected.compute().items():
        print(f"{name:>16} {value:.4f}")
