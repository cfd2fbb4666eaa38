"""Read every record of the files that a path stands for, for training, evaluation, scoring and streams."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce
from typing import IO, cast

import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
from pyspark import cloudpickle
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from distilspark.config import TaskConfig
from distilspark.data import records, survey
from distilspark.data.columns import INPUT, file_of_row, own_column, with_the_same_columns
from distilspark.data.filesystem import open_file, reading, to_spark
from distilspark.data.input_files import InputFile, find_files
from distilspark.data.labels import is_allowed, label_problem, label_value
from distilspark.data.parquet import read_parquet
from distilspark.data.recognise import PLAIN_ENDINGS, EmptyFileError, recognise
from distilspark.data.records import Format, arrow_schema, read_records, split_by_file, to_batches
from distilspark.data.survey import Survey, complete, join_surveys, survey_lines, with_quoting
from distilspark.data.text_rules import MAX_CHARACTERS, text_problem_column
from distilspark.errors import UserError

GZIP_RATIO = 16  # an upper estimate for text
LOCAL_BYTES = 16 << 20  # up to this size the driver reads text itself, which is faster than a Spark job
for module in (records, survey):  # a cluster's workers do not have this project
    cloudpickle.register_pickle_by_value(module)


@dataclass(frozen=True)
class Group:
    """Files of one format."""

    format: Format
    files: list[InputFile]

    @property
    def uris(self) -> list[str]:
        """The files' URIs."""
        return [file.uri for file in self.files]


@dataclass(frozen=True)
class Inputs:
    """The files that a path stands for."""

    files: list[InputFile]
    groups: list[Group]


def find_inputs(
    spark: SparkSession, task: TaskConfig, path: str, require_label: bool = False, plain_text: bool = True
) -> Inputs:
    """Find a path's files, recognise the format of each, and survey text files; empty files have no rows.

    Raises:
        UserError: the path does not exist, all files are empty, or a file cannot be read without loss.

    """
    inputs = group_files(spark, task, find_files(spark, path), require_label, plain_text)
    if not inputs.groups:
        raise EmptyFileError(f"{path} holds no rows: {inputs.files[-1].uri} is empty. Give a file that holds some")
    return inputs


def group_files(
    spark: SparkSession,
    task: TaskConfig,
    files: list[InputFile],
    require_label: bool = False,
    plain_text: bool = True,
) -> Inputs:
    """Group files by format; without groups if no file has rows. Errors as `find_inputs`."""
    found: list[tuple[InputFile, Format]] = []
    for file in files:
        with suppress(EmptyFileError):
            found.append((file, recognise(spark, task, file, require_label, plain_text)))
    _check_parts(found)
    groups = [Group(known, [file for file, _ in part]) for known, part in _by_format(found)]
    return Inputs(files, [whole for group in groups for whole in _surveyed(spark, group)])


def _by_format(found: Sequence[tuple[InputFile, Format]]) -> list[tuple[Format, list[tuple[InputFile, Format]]]]:
    """Group files by format; JSON Lines files that differ only in their keys form one group with the keys of all."""
    groups: list[tuple[Format, list[tuple[InputFile, Format]]]] = []
    for file, known in found:
        for place, (other, files) in enumerate(groups):
            alike = replace(known, columns=other.columns) if known.kind == "jsonl" else known
            if alike == other:
                columns = tuple(dict.fromkeys((*other.columns, *known.columns)))
                groups[place] = (replace(other, columns=columns), [*files, (file, known)])
                break
        else:
            groups.append((known, [(file, known)]))
    return groups


def _check_parts(found: Sequence[tuple[InputFile, Format]]) -> None:
    """Raise `UserError` for a part of a file that lacks the header, which only the first part has."""
    headed = {(known.kind, len(known.columns)): file.uri for file, known in found if known.has_header}
    tables = [file.uri for file, known in found if known.kind != "text" and file.uri.lower().endswith(PLAIN_ENDINGS)]
    for file, known in found:
        first = headed.get((known.kind, len(known.columns))) if not known.has_header else None
        if known.kind == "text" and tables:
            first = tables[0]
        if first:
            raise UserError(
                f"{file.uri} has no header, and {first} beside it has one. Join the parts of one file "
                "(cat PART PART > FILE), or give each of them the header"
            )


def _surveyed(spark: SparkSession, group: Group) -> Iterator[Group]:
    """Complete a text format from a survey of all lines; files with different results become separate groups."""
    if group.format.kind in ("parquet", "text"):
        yield group
        return
    surveys = _survey(spark, group)
    for file in group.files:
        if refusal := surveys[file.uri].refusal:
            raise UserError(f"{file.uri}, {refusal}. Correct the file: nothing of it was read")
    if group.format.kind == "jsonl":
        yield replace(group, format=complete(group.format, surveys.values()))
        return
    yield from (
        Group(known, [file for file, _ in part])
        for known, part in _by_format(
            [(file, with_quoting(group.format, surveys[file.uri], file.uri)) for file in group.files]
        )
    )


def _survey(spark: SparkSession, group: Group) -> dict[str, Survey]:
    if _is_small(group):
        return {file.uri: survey_lines(_local_lines(spark, file, group), group.format) for file in group.files}
    known = group.format

    def survey_files(batches: Iterator[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
        for file, _, lines in split_by_file(batches, by_block=False):
            yield pyarrow.RecordBatch.from_pydict({"file": [file], "survey": [survey_lines(lines, known).to_json()]})

    lines = _spark_lines(spark, group, in_order=known.kind != "jsonl")
    with reading(_name(group)):
        found = lines.mapInArrow(survey_files, "file string, survey string").collect()
    parts: dict[str, list[str]] = {file.uri: [] for file in group.files}
    for row in found:
        parts[row["file"]].append(row["survey"])
    return {uri: join_surveys(each) for uri, each in parts.items()}


def _is_small(group: Group) -> bool:
    unpacked_size = sum(file.size for file in group.files) * (GZIP_RATIO if group.format.gzipped else 1)
    return unpacked_size <= LOCAL_BYTES


def _name(group: Group) -> str:
    return group.uris[0] + (f" (and {len(group.uris) - 1} more)" if len(group.uris) > 1 else "")


def _local_lines(spark: SparkSession, file: InputFile, group: Group) -> Iterator[bytes]:
    with reading(file.uri), open_file(spark, file.uri) as raw, _unpacked(raw, group.format.gzipped) as lines:
        for line in lines:
            yield line.removesuffix(b"\n")


def _unpacked(raw: IO[bytes], gzipped: bool) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(raw)) if gzipped else raw


def _spark_lines(spark: SparkSession, group: Group, in_order: bool) -> DataFrame:
    """Read lines as `file` (URI), `start` (byte at which their block begins) and `value`; in order if `in_order`."""
    lines = spark.read.text(to_spark(group.uris), lineSep="\n").select(
        file_of_row().alias("file"),
        F.col("_metadata.file_block_start").alias("start"),
        F.col("value").cast("binary").alias("value"),
    )
    if not in_order:
        return lines
    placed = lines.withColumn("place", F.monotonically_increasing_id())
    return placed.repartition("file").sortWithinPartitions("file", "start", "place").drop("place")


def read_files(spark: SparkSession, inputs: Inputs, all_columns: bool) -> DataFrame:
    """Read every record once. No action runs.

    Returns:
        `input`, a struct of the record's own columns (of parquet only those with a role, unless `all_columns`);
        `id`, `sentence1`, `sentence2`, `label`, `source` (strings; null if the file has none); `raw`, the record's
        text, shortened; `problem`, the reason why it cannot be read, null for a good one.

    Raises:
        UserError: a file cannot be read, or a column cannot be kept; the message names both.

    """
    parts = []
    for group in inputs.groups:
        with reading(_name(group)):
            if group.format.kind == "parquet":
                parts.append(read_parquet(spark, group.files, group.format, all_columns))
            else:
                parts.append(_read_text(spark, group))
    return reduce(DataFrame.unionByName, with_the_same_columns(parts))


def read_rows(
    spark: SparkSession,
    task: TaskConfig,
    path: str,
    require_label: bool,
    max_characters: int = MAX_CHARACTERS,
    plain_text: bool = False,
) -> DataFrame:
    """Read every row of a file or folder in canonical columns, bad rows with their reason.

    `plain_text`: read a file without columns as one sentence a line.

    Returns:
        `id` (the file's index column, null if it has none), `sentence1`, `sentence2` (null for single sentences),
        `label` (double, null if it is missing or none of the task's), `source`, `row` (the row's text, shortened)
        and `problem` (null for a good row). No action runs.

    Raises:
        UserError: as `find_inputs` and `read_files`.

    """
    inputs = find_inputs(spark, task, path, require_label, plain_text)
    found = read_files(spark, inputs, all_columns=False)
    label = label_value(F.col("label"), task)
    problems = [F.col("problem"), *(text_problem_column(name, max_characters) for name in task.text_columns)]
    if require_label:
        problems.append(label_problem(task, F.col("label"), label))
    return found.select(
        F.nullif("id", F.lit("")).alias("id"),
        "sentence1",
        "sentence2",
        F.when(is_allowed(task, label), label).alias("label"),
        F.nullif("source", F.lit("")).alias("source"),
        F.col("raw").alias("row"),
        F.coalesce(*problems).alias("problem"),
    )


def read_inputs(spark: SparkSession, task: TaskConfig, inputs: Inputs) -> DataFrame:
    """Read every row to score.

    Returns:
        `input`, a struct of the row's own columns; the task's text columns; `label` (double, null if it is missing
        or none of the task's); `problem`, the reason why the row cannot be read, null for a good one. No action runs.

    Raises:
        UserError: as `read_files`.

    """
    found = read_files(spark, inputs, all_columns=True)
    label = label_value(F.col("label"), task)
    return found.select(INPUT, *task.text_columns, F.when(is_allowed(task, label), label).alias("label"), "problem")


def _read_text(spark: SparkSession, group: Group) -> DataFrame:
    known = group.format
    schema = arrow_schema(known)
    if _is_small(group):
        batches = [
            batch
            for file in group.files
            for batch in to_batches(read_records(_local_lines(spark, file, group), known, True), known, file.keys)
        ]
        table = pyarrow.Table.from_batches(batches, schema)
        rows = spark.createDataFrame(table) if batches else spark.createDataFrame([], from_arrow_schema(schema))
    else:
        keys = {file.uri: file.keys for file in group.files} if known.keys else {}

        def read_lines(batches: Iterator[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
            for file, starts_file, lines in split_by_file(batches, by_block=not known.has_breaks):
                yield from to_batches(read_records(lines, known, starts_file), known, keys.get(file, {}))

        rows = _spark_lines(spark, group, in_order=known.has_breaks).mapInArrow(read_lines, from_arrow_schema(schema))
    if "json" not in known.types:
        return rows
    kinds = dict(zip(known.columns, known.types, strict=True))
    values = {name: own_column(name) for name in (*known.columns, *known.keys)}
    own = [(F.parse_json(value) if kinds.get(name) == "json" else value).alias(name) for name, value in values.items()]
    return rows.withColumn(INPUT, F.struct(*own))
