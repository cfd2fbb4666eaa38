"""Scoring in chunks: each is scored, written, checked and then marked as done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import unquote

import mlflow
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from distilspark.config import PredictConfig
from distilspark.console import progress_bar, say
from distilspark.data.columns import INPUT as OWN
from distilspark.data.filesystem import SPARK_ERRORS, cause_of, exists, list_folder, name_of, to_spark
from distilspark.data.read import Inputs, read_inputs
from distilspark.errors import UserError, WorkError
from distilspark.scoring.packaged import TaskModel
from distilspark.scoring.staging import Places, read_json, write_json

FILES_A_CHUNK = 8  # at least: chunks are made of whole files
LEAST_ROWS = 256  # a partition of fewer rows costs more than it gains
MOST_ROWS = 10_000  # of a partition: what Spark hands to Python in one Arrow batch
ROW_NUMBER = "row"
Udf = Callable[[Column], Column]


@dataclass(frozen=True)
class Chunk:
    """Files of `rows/` that are scored together."""

    name: str
    files: list[str]
    rows: int


@dataclass(frozen=True)
class Counts:
    """What became of a chunk's rows, or of all."""

    rows: int
    scored: int
    failed: int
    cut: int  # scored, of more tokens than the model reads
    seconds: float


def ingest(spark: SparkSession, config: PredictConfig, inputs: Inputs, places: Places) -> list[Chunk]:
    """Read the input once, number its rows, and plan the chunks; what was read before a restart is not read again.

    Raises:
        UserError: a file cannot be read.
        WorkError: the staging folder cannot be written.

    """
    plan = places.of("chunks.json")
    if not exists(spark, plan):
        rows = read_inputs(spark, config.task, inputs).withColumn(ROW_NUMBER, F.monotonically_increasing_id())
        rows_a_file = math.ceil(config.predict.rows_per_chunk / FILES_A_CHUNK)
        try:
            rows.write.mode("overwrite").option("maxRecordsPerFile", rows_a_file).parquet(places.of("rows"))
        except SPARK_ERRORS as error:
            raise _ingest_error(error, inputs, places) from error
        chunks = plan_chunks(_rows_by_file(spark, places.of("rows")), config.predict.rows_per_chunk)
        write_json(spark, plan, [asdict(chunk) for chunk in chunks])
    return [Chunk(**chunk) for chunk in read_json(spark, plan)]


def _ingest_error(error: Exception, inputs: Inputs, places: Places) -> Exception:
    """Whose fault it is: an input file that is named in the error, or the folder that is written."""
    whole = unquote(str(error))
    bad = [file.uri for file in inputs.files if file.uri.partition(":")[2].lstrip("/") in whole]
    if bad and "No space left" not in whole:
        return UserError(f"{bad[0]} cannot be read: {cause_of(error)}. Mend it, or leave it out of the input")
    return WorkError(f"the input cannot be copied to {places.staging}: {cause_of(error)}")


def _rows_by_file(spark: SparkSession, uri: str) -> dict[str, int]:
    counts = spark.read.parquet(*to_spark(uri)).groupBy("_metadata.file_name").count().collect()
    known = {row["file_name"]: row["count"] for row in counts}
    return {name_of(file): known.get(name_of(file), 0) for file, _ in list_folder(spark, uri)}


def plan_chunks(rows_by_file: dict[str, int], rows_per_chunk: int) -> list[Chunk]:
    """Group files, in the order of their names, so that no chunk of several files has more rows than it should.

    >>> [chunk.files for chunk in plan_chunks({"b": 3, "a": 2, "c": 9, "d": 0}, 5)]
    [['a', 'b'], ['c', 'd']]
    """
    groups: list[tuple[list[str], int]] = []
    for file, rows in sorted(rows_by_file.items()):
        if groups and (not rows or groups[-1][1] + rows <= rows_per_chunk):
            files, before = groups.pop()
            groups.append(([*files, file], before + rows))
        else:
            groups.append(([file], rows))
    return [Chunk(f"{place:05}", files, rows) for place, (files, rows) in enumerate(groups)]


def count_partitions(rows: int, cores: int) -> int:
    """How many partitions give every core the same work, in Arrow batches of a size that is worth a call.

    >>> [count_partitions(rows, 4) for rows in (0, 1, 1000, 1100, 40_000, 40_001)]
    [1, 1, 4, 4, 4, 8]
    """
    if rows <= cores * LEAST_ROWS:
        return max(1, math.ceil(rows / LEAST_ROWS))
    return cores * math.ceil(rows / (cores * MOST_ROWS))


def make_udf(spark: SparkSession, config: PredictConfig, model: TaskModel) -> Udf:
    """The model as a function from a struct of texts to a struct of answers; a cluster's workers get it from Spark."""
    tokens = config.predict.batch_tokens
    params = {
        "max_characters": config.predict.max_characters,
        "batch_tokens": 0 if tokens == "auto" else tokens,
    }
    return mlflow.pyfunc.spark_udf(spark, str(model.found.folder), env_manager="local", params=params)


def score_rows(rows: DataFrame, config: PredictConfig, udf: Udf) -> DataFrame:
    """Predictions for what `read_inputs` read.

    Returns:
        its columns `input`, `row` and `label` (as `truth`), then `prediction`, for classification `label` and `score`
        (all of them null where there is an error), `error` (empty where there is none), `tokens`, `unknown_tokens`.

    """
    problem = F.coalesce("problem", _too_long(config))
    # a text that is not scored anyway does not travel to Python
    texts = [F.when(problem.isNull(), F.col(name)).alias(name) for name in config.task.text_columns]
    answered = rows.withColumn("_problem", problem).withColumn("_answer", udf(F.struct(*texts)))
    error = F.coalesce("_problem", "_answer.error")
    answers = [F.when(error == "", F.col(f"_answer.{name}")).alias(name) for name in config.task.head_kind.answer_names]
    measured = [F.col(f"_answer.{name}").alias(name) for name in ("tokens", "unknown_tokens")]
    return answered.select(OWN, ROW_NUMBER, F.col("label").alias("truth"), *answers, error.alias("error"), *measured)


def _too_long(config: PredictConfig) -> Column:
    most = config.predict.max_characters
    return F.coalesce(
        *(
            F.when(
                F.length(name) > most,
                F.concat(F.lit(f"{name} has "), F.length(name).cast("string"), F.lit(f" characters, more than {most}")),
            )
            for name in config.task.text_columns
        ),
        F.lit(None).cast("string"),
    )


def score_chunks(
    spark: SparkSession, config: PredictConfig, model: TaskModel, udf: Udf, places: Places, chunks: list[Chunk]
) -> Counts:
    """Score the chunks that are not done yet; what became of all rows, those of earlier attempts too.

    Raises:
        WorkError: a chunk fails; what is done is kept.

    """
    schema = spark.read.parquet(*to_spark(places.of("rows"))).schema
    marks = {chunk.name: places.of("done", f"{chunk.name}.json") for chunk in chunks}
    left = [chunk for chunk in chunks if not exists(spark, marks[chunk.name])]
    if len(left) < len(chunks):
        say(f"{len(chunks) - len(left)} of {len(chunks)} chunks were done before")
    with progress_bar() as progress:
        bar = progress.add_task("scoring", total=len(chunks), completed=len(chunks) - len(left))
        for chunk in left:
            rows = spark.read.schema(schema).parquet(*to_spark([places.of("rows", file) for file in chunk.files]))
            counts = _score_chunk(rows, config, model, udf, places, chunk)
            write_json(spark, marks[chunk.name], asdict(counts))
            progress.advance(bar)
    return add_up([Counts(**read_json(spark, mark)) for mark in marks.values()])


def _score_chunk(
    rows: DataFrame, config: PredictConfig, model: TaskModel, udf: Udf, places: Places, chunk: Chunk
) -> Counts:
    started = time.perf_counter()
    spark, target = rows.sparkSession, places.of("scored", chunk.name)
    partitions = count_partitions(chunk.rows, spark.sparkContext.defaultParallelism)
    try:
        score_rows(rows.repartition(partitions), config, udf).write.mode("overwrite").parquet(target)
        counts = _count(spark.read.parquet(*to_spark(target)), model.max_length)
    except SPARK_ERRORS as error:
        raise WorkError(
            f"chunk {chunk.name} failed: {cause_of(error)}. What is done is kept in {places.staging}: start again"
        ) from error
    if counts["rows"] != chunk.rows:
        raise WorkError(f"chunk {chunk.name} has {chunk.rows} rows, and {counts['rows']} came out. Start again")
    return Counts(**counts, seconds=time.perf_counter() - started)


def _count(scored: DataFrame, max_length: int) -> dict[str, Any]:
    """Read back from what was written, whatever was tried twice on the way."""
    is_scored = F.col("error") == ""
    counts = scored.agg(
        F.count_distinct(ROW_NUMBER).alias("rows"),
        F.count_if(is_scored).alias("scored"),
        F.count_if(~is_scored).alias("failed"),
        F.count_if(is_scored & (F.col("tokens") > max_length)).alias("cut"),
    ).first()
    assert counts is not None
    return dict(counts.asDict())


def add_up(parts: list[Counts]) -> Counts:
    """The sums."""
    return Counts(**{name: sum(asdict(part)[name] for part in parts) for name in Counts.__dataclass_fields__})
