"""Start Spark once to make the archive of its classes: `python -m distilspark.first_start`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pandas as pd
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from distilspark.class_archive import archive_options, find_archive
from distilspark.config import SparkConfig
from distilspark.spark import session


def make_archive() -> Path | None:
    """Run a small job with the commands' operations, and return the archive of its classes; None if there is none."""
    quiet = {"spark.log.level": "OFF"}
    config = SparkConfig("local[2]", "1g", "1g", 1, 2, False, 1800, quiet)  # type: ignore[call-arg]
    spark = session(config, "distilspark-class-archive")
    with tempfile.TemporaryDirectory() as folder:
        rows = spark.createDataFrame(pd.DataFrame({"text": ["a b", "c", "d"], "number": [1, 2, 3]}))
        doubled = pandas_udf(lambda numbers: numbers * 2, "long")  # type: ignore[call-overload]
        scored = rows.mapInArrow(lambda batches: batches, rows.schema).withColumn("answer", doubled("number"))
        scored.write.parquet(f"{folder}/parquet")
        scored.write.csv(f"{folder}/csv", header=True)
        scored.write.json(f"{folder}/json")
        spark.read.text(f"{folder}/csv").select(F.split("value", ",")).collect()
        again = spark.read.parquet(f"{folder}/parquet").withColumn("words", F.length(F.lower("text")))
        again.groupBy("text").agg(F.sum("number"), F.first("words"), F.count("*")).orderBy("text").toPandas()
        again.repartition(2).join(again.select("text"), "text", "left").persist().count()
    jvm = spark.sparkContext._gateway.proc  # type: ignore[union-attr]
    spark.stop()
    jvm.stdin.close()
    jvm.wait(120)
    archive_options()  # renames the archive that the JVM has written
    return find_archive()


if __name__ == "__main__":
    sys.exit(0 if make_archive() else "no class archive was made: Spark starts without one, more slowly")
