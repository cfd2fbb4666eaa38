"""Rival without Spark: the package in one Python process, with parquet input and output.

`one_process.py INPUT OUTPUT PACKAGE THREADS` prints its seconds as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from distilspark.package.pyfunc import Scorer

BATCH = 10_000  # rows


def main() -> None:
    """Read, score and write batch by batch."""
    started = time.perf_counter()
    source, target, package = map(Path, sys.argv[1:4])
    target.mkdir()
    file = pq.ParquetFile(source)
    scorer = Scorer(package, threads=int(sys.argv[4]))
    writer: pq.ParquetWriter | None = None
    for batch in file.iter_batches(BATCH):
        scored = pa.Table.from_pandas(score(scorer, batch.to_pandas()), preserve_index=False)
        writer = writer or pq.ParquetWriter(target / "part-0.parquet", scored.schema)
        writer.write_table(scored)
    if writer:
        writer.close()
    print(json.dumps({"job_seconds": time.perf_counter() - started}))


def score(scorer: Scorer, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the package's predictions."""
    return pd.concat([rows, scorer.predict(rows.rename(columns={"sentence": "sentence1"}))], axis=1)


if __name__ == "__main__":
    main()
