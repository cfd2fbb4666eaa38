"""The job shared by the rivals in Spark: read a parquet file, score it in a pandas UDF, write parquet."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version

import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf

PACKAGES = ("keras", "keras-hub", "pyspark", "tensorflow", "torch", "transformers")
Predict = Callable[[list[str]], pd.DataFrame]  # sentences -> prediction, score


def run(load: Callable[[str], Predict]) -> None:
    """Run `SCRIPT INPUT OUTPUT NETWORK CORES` with one task a core; print its seconds as JSON.

    `load(network)` is called once in each worker process; `load_seconds` is the mean of these calls.
    """
    source, target, network, cores = sys.argv[1:]
    spark = _session(int(cores))
    loading = spark.sparkContext.accumulator(0.0)

    @pandas_udf("prediction long, score double")
    def score(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        started = time.perf_counter()
        predict = load(network)
        loading.add(time.perf_counter() - started)
        for sentences in batches:
            yield predict(sentences.tolist())

    started = time.perf_counter()
    rows = spark.read.parquet(source).repartition(int(cores))
    rows.select("id", score("sentence").alias("answer")).select("id", "answer.*").write.parquet(target)
    figures = {
        "job_seconds": time.perf_counter() - started,
        "load_seconds": loading.value / int(cores),
        "versions": {package: version(package) for package in PACKAGES},
    }
    spark.stop()
    print(json.dumps(figures))


def _session(cores: int) -> SparkSession:
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master(f"local[{cores}]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.driver.memory", "2g").getOrCreate()
    spark.sparkContext.addPyFile(__file__)
    return spark
