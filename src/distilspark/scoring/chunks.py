"""Scoring in chunks: each is scored, written, read back, checked and then marked as done."""

from __future__ import annotations

import math
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import unquote

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from distilspark.config import PredictConfig
from distilspark.console import print_line, progress_bar
from distilspark.data.columns import INPUT
from distilspark.data.filesystem import SPARK_ERRORS, cause_of, exists, list_folder, name_of, reading, to_spark
from distilspark.data.read import Inputs, read_inputs
from distilspark.data.text_rules import text_problem_column
from distilspark.drift.summary import REPEATED, ROW_NUMBER, Summary, count_cells, sum_summaries, summarize
from distilspark.errors import UserError, WorkError
from distilspark.package.load import TaskModel
from distilspark.scoring.model_udf import MEASURED, Udf, refuse_changed
from distilspark.scoring.staging import OutputPaths, check_owner, read_json, write_json

FILES_PER_CHUNK = 8  # at least; chunks consist of whole files
MIN_PARTITION_ROWS = 256  # a smaller partition costs more than it gains
MAX_PARTITION_ROWS = 10_000  # of a partition: one Arrow batch from Spark to Python
FOOTER_THREADS = 16  # that the driver reads in parallel
CHUNK = "chunk"  # the number of a row's chunk


@dataclass(frozen=True)
class Chunk:
    """Files of the copied input that are scored together."""

    name: str
    files: list[str]
    rows: int


@dataclass(frozen=True)
class ChunkPlan:
    """The copy of the input, and its chunks."""

    folder: str
    schema: StructType
    chunks: list[Chunk]


def ingest(spark: SparkSession, config: PredictConfig, inputs: Inputs, paths: OutputPaths) -> ChunkPlan:
    """Read the input once, number its rows, and plan the chunks; a restart reads the copy instead.

    Raises:
        UserError: a file cannot be read.
        WorkError: the staging folder cannot be written.

    """
    file = paths.shared("chunks.json")
    if not exists(spark, file):
        rows = read_inputs(spark, config.task, inputs).withColumn(ROW_NUMBER, F.monotonically_increasing_id())
        rows_a_file = math.ceil(config.predict.rows_per_chunk / FILES_PER_CHUNK)
        try:
            rows.write.mode("overwrite").option("maxRecordsPerFile", rows_a_file).parquet(paths.own("rows"))
        except SPARK_ERRORS as error:
            check_owner(spark, paths)
            raise _ingest_error(error, inputs, paths) from error
        chunks = plan_chunks(_rows_by_file(spark, paths.own("rows")), config.predict.rows_per_chunk)
        plan = {
            "folder": name_of(paths.own("rows")),
            "schema": rows.schema.jsonValue(),
            "chunks": [asdict(chunk) for chunk in chunks],
        }
        check_owner(spark, paths)
        write_json(spark, file, plan)
    known = read_json(spark, file)
    chunks = [Chunk(**chunk) for chunk in known["chunks"]]
    return ChunkPlan(paths.shared(known["folder"]), StructType.fromJson(known["schema"]), chunks)


def _ingest_error(error: Exception, inputs: Inputs, paths: OutputPaths) -> Exception:
    """Return a `UserError` for the input file that the error names, else a `WorkError` for the staging folder."""
    whole = unquote(str(error))
    bad = [file.uri for file in inputs.files if file.uri.partition(":")[2].lstrip("/") in whole]
    if bad and "No space left" not in whole:
        return UserError(f"{bad[0]} cannot be read: {cause_of(error)}. Repair it, or leave it out of the input")
    return WorkError(f"the input cannot be copied to {paths.staging}: {cause_of(error)}")


def _rows_by_file(spark: SparkSession, folder: str) -> dict[str, int]:
    """Count the rows of parquet files from their footers, without a Spark job."""
    uris = [uri for uri, _ in list_folder(spark, folder)]
    with reading(folder), ThreadPoolExecutor(FOOTER_THREADS) as pool:
        counts = pool.map(lambda uri: _count_rows(spark, uri), uris)
        return dict(zip(map(name_of, uris), counts, strict=True))


def _count_rows(spark: SparkSession, uri: str) -> int:
    jvm: Any = spark._jvm
    parquet, path = jvm.org.apache.parquet.hadoop, jvm.org.apache.hadoop.fs.Path(uri)
    footer = parquet.ParquetFileReader.open(
        parquet.util.HadoopInputFile.fromPath(path, spark._jsc.hadoopConfiguration())
    )
    try:
        return int(footer.getRecordCount())
    finally:
        footer.close()


def plan_chunks(rows_by_file: dict[str, int], rows_per_chunk: int) -> list[Chunk]:
    """Group files, in the order of their rows, so that no chunk of several files exceeds `rows_per_chunk`.

    >>> [chunk.files for chunk in plan_chunks({"b": 3, "a": 2, "c": 9, "d": 0}, 5)]
    [['a', 'b'], ['c', 'd']]
    """
    groups: list[tuple[list[str], int]] = []
    for file, rows in sorted(rows_by_file.items(), key=lambda item: _file_order(item[0])):
        if groups and (not rows or groups[-1][1] + rows <= rows_per_chunk):
            files, before = groups.pop()
            groups.append(([*files, file], before + rows))
        else:
            groups.append(([file], rows))
    return [Chunk(f"{place:05}", files, rows) for place, (files, rows) in enumerate(groups)]


def _file_order(file: str) -> tuple[int, int, str]:
    """Return the sort key of Spark's files, `part-PARTITION-ID-cNUMBER.parquet`; either number may exceed its padding.

    >>> sorted(["part-100000-x-c000.p", "part-00001-x-c1000.p", "part-00001-x-c999.p"], key=_file_order)
    ['part-00001-x-c999.p', 'part-00001-x-c1000.p', 'part-100000-x-c000.p']
    """
    found = re.match(r"part-(\d+)-.*-c(\d+)\.", file)
    return (int(found[1]), int(found[2]), file) if found else (0, 0, file)


def count_partitions(rows: int, cores: int) -> int:
    """Return the number of partitions that gives every core equal work, in Arrow batches large enough for a call.

    >>> [count_partitions(rows, 4) for rows in (0, 1, 1000, 1100, 40_000, 40_001)]
    [1, 1, 4, 4, 4, 8]
    """
    if rows <= cores * MIN_PARTITION_ROWS:
        return max(1, math.ceil(rows / MIN_PARTITION_ROWS))
    return cores * math.ceil(rows / (cores * MAX_PARTITION_ROWS))


def score_rows(rows: DataFrame, config: PredictConfig, udf: Udf, partitions: int = 1) -> DataFrame:
    """Predict the rows that `read_inputs` returned, in `partitions` partitions.

    Returns:
        its columns `input`, `row` and `label` (as `truth`), then `prediction`, for classification `label` and `score`
        (all null if there is an error), `error` (empty if there is none), `tokens`, `unknown_tokens`,
        and `repeated` (with `predict.dedupe`, the prediction is that of another row with the same text).

    """
    most = config.predict.max_characters
    problem = F.coalesce("problem", *(text_problem_column(name, most) for name in config.task.text_columns))
    # a text that is not scored is not sent to Python
    texts = [F.when(problem.isNull(), F.col(name)).alias(name) for name in config.task.text_columns]
    asked = rows.withColumn("_problem", problem).withColumn("_texts", F.struct(*texts))
    if config.predict.dedupe:
        answered = _score_distinct(asked, udf, partitions)
    else:
        spread = asked.repartition(partitions) if partitions > 1 else asked.coalesce(1)
        answered = spread.withColumn("_answer", udf(F.col("_texts"))).withColumn(REPEATED, F.lit(False))
    error = F.coalesce("_problem", "_answer.error")
    answers = [F.when(error == "", F.col(f"_answer.{name}")).alias(name) for name in config.task.head_kind.answer_names]
    measured = [F.col(f"_answer.{name}").alias(name) for name in MEASURED]
    kept = [F.col("label").alias("truth"), *answers, error.alias("error"), *measured]
    return answered.select(INPUT, ROW_NUMBER, *kept, REPEATED)


def _score_distinct(asked: DataFrame, udf: Udf, partitions: int) -> DataFrame:
    """Call the model once for all rows with the same texts, and give all of them its answer."""
    together = asked.repartition(partitions, "_texts")
    firsts = together.groupBy("_texts").agg(F.min(ROW_NUMBER).alias("_first"))
    answered = together.join(firsts.withColumn("_answer", udf(F.col("_texts"))), on="_texts")
    return answered.withColumn(REPEATED, F.col("_problem").isNull() & (F.col(ROW_NUMBER) != F.col("_first")))


def score_chunks(
    spark: SparkSession, config: PredictConfig, model: TaskModel, udf: Udf, paths: OutputPaths, plan: ChunkPlan
) -> Summary:
    """Score the chunks that are not done yet, and sum the figures of all chunks, also of earlier attempts.

    Raises:
        WorkError: a chunk fails; finished chunks are kept.

    """
    chunks = plan.chunks
    marks = {chunk.name: paths.shared("done", f"{chunk.name}.json") for chunk in chunks}
    left = [chunk for chunk in chunks if not exists(spark, marks[chunk.name])]
    if len(left) < len(chunks):
        print_line(f"{len(chunks) - len(left)} of {len(chunks)} chunks were already done")
    with progress_bar() as progress:
        bar = progress.add_task("scoring", total=len(chunks), completed=len(chunks) - len(left))
        for chunk in left:
            files = to_spark([f"{plan.folder}/{file}" for file in chunk.files])
            summary = _score_chunk(spark.read.schema(plan.schema).parquet(*files), config, model, udf, paths, chunk)
            check_owner(spark, paths)
            mark = {"folder": name_of(paths.own("scored", chunk.name)), "summary": asdict(summary)}
            write_json(spark, marks[chunk.name], mark)
            progress.advance(bar)
    return sum_summaries(Summary(**read_json(spark, mark)["summary"]) for mark in marks.values())


def _score_chunk(
    rows: DataFrame, config: PredictConfig, model: TaskModel, udf: Udf, paths: OutputPaths, chunk: Chunk
) -> Summary:
    started = time.perf_counter()
    spark, target = rows.sparkSession, paths.own("scored", chunk.name)
    partitions = count_partitions(chunk.rows, spark.sparkContext.defaultParallelism)
    scored = score_rows(rows, config, udf, partitions).withColumn(CHUNK, F.lit(int(chunk.name)))
    try:
        scored.write.mode("overwrite").parquet(target)
        # count what was written, whatever Spark retried
        cells = count_cells(spark.read.schema(scored.schema).parquet(*to_spark(target)), config.task, chunk.rows)
    except SPARK_ERRORS as error:
        check_owner(spark, paths)
        cause = cause_of(error)
        refuse_changed(cause, model)
        raise WorkError(
            f"chunk {chunk.name} failed: {cause}. Finished chunks are kept in {paths.staging}: start again"
        ) from error
    check_row_counts(cells, chunk)
    return replace(summarize(cells, model.max_length), seconds=time.perf_counter() - started)


def check_row_counts(cells: pd.DataFrame, chunk: Chunk) -> None:
    """Raise `WorkError` unless every row of the chunk was written exactly once."""
    written, different = int(cells["written"].sum()), int(cells["rows"].sum())
    if (written, different) != (chunk.rows, chunk.rows):
        raise WorkError(
            f"chunk {chunk.name} has {chunk.rows} rows, and {written} were written, {different} of them distinct. "
            "Start again"
        )


def read_scored(spark: SparkSession, config: PredictConfig, paths: OutputPaths, plan: ChunkPlan) -> DataFrame:
    """Read the scored rows of all chunks: the columns of `score_rows`, and `chunk`."""
    marks = [read_json(spark, paths.shared("done", f"{chunk.name}.json")) for chunk in plan.chunks]
    folders = to_spark([paths.shared("scored", mark["folder"]) for mark in marks])
    return spark.read.schema(_scored_schema(plan, config)).parquet(*folders)


def _scored_schema(plan: ChunkPlan, config: PredictConfig) -> StructType:
    """Return the schema of scored rows; Spark would start a job to infer it."""
    schema = StructType([plan.schema[INPUT], plan.schema[ROW_NUMBER]]).add("truth", "double")
    for answer in config.task.head_kind.answers:
        schema = schema.add(answer.name, answer.type)
    for name, kind in (("error", "string"), *((name, "long") for name in MEASURED), (CHUNK, "integer")):
        schema = schema.add(name, kind)
    return schema
