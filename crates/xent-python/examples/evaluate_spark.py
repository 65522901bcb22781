"""Parquet shards evaluated on Spark: each partition sends one evaluation, not its logits.

    pip install pyspark pyarrow pandas
    python evaluate_spark.py

Checks that the numbers have the bits of one evaluation of all rows in one process. Not run by the
tests; last run on 2026-11-27 with pyspark 4.3.0 and Java in local mode:

    3320 rows in 16 partitions, three orders: the same bits
            accuracy 0.3422
                top5 0.8301
                 nll 1.8546
          perplexity 6.3890
               brier 0.7808
                 ece 0.0149
      ece_equal_mass 0.0197
       ece_classwise 0.0108
                 mce 0.1445
                aurc 0.5227
         temperature 0.9690
"""

import os
import random
import sys
import tempfile

import numpy as np
import pyarrow as pa
from evaluate_dask import evaluate as evaluate_shard
from evaluate_dask import merged, write_shards

from xent.metrics import Evaluation


def evaluate_all(frame, classes):
    """The evaluation of a data frame with the columns ``logits`` and ``label``."""

    def evaluate(batches):
        from pyspark import TaskContext

        evaluation = Evaluation(classes)
        source = f"partition {TaskContext.get().partitionId()}"
        for batch in batches:
            logits = batch.column("logits").flatten().to_numpy(zero_copy_only=False)
            labels = batch.column("label").to_numpy(zero_copy_only=False)
            # Spark has a process for each core.
            evaluation.update(logits.reshape(-1, classes), labels, source=source, threads=1)
        if evaluation.sources:
            yield pa.RecordBatch.from_pydict({"evaluation": [evaluation.to_bytes()]})

    rows = frame.select("logits", "label").mapInArrow(evaluate, "evaluation binary").collect()
    random.shuffle(rows)  # any order
    whole, *rest = (Evaluation.from_bytes(bytes(row.evaluation)) for row in rows)
    for part in rest:
        whole.merge(part)
    return whole


if __name__ == "__main__":
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_shards(folder)
        spark = SparkSession.builder.master("local[2]").appName("xent").getOrCreate()
        spark.sparkContext.setLogLevel("ERROR")
        frame = spark.read.parquet(*map(str, paths)).repartition(16)
        found = [evaluate_all(frame, classes=10) for _ in range(3)]
        spark.stop()

        expected = evaluate_shard(paths[0], 10)
        for path in paths[1:]:
            expected = merged(expected, evaluate_shard(path, 10))
    values = expected.compute()
    for one in found:
        assert one.rows == expected.rows and one.compute() == values
    print(
        f"{expected.rows} rows in {len(found[0].sources)} partitions, three orders: the same bits"
    )
    for name, value in values.items():
        print(f"{name:>16} {np.float64(value):.4f}")
