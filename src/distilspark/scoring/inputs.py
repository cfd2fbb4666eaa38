"""The rows to score: whatever training reads, and plain text, a line a row; every column and every row is kept."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BinaryType, MapType, StringType, StructField, StructType, VariantType

from distilspark.config import TaskConfig
from distilspark.data.filesystem import SPARK_ERRORS, InputFile, find_files, read_head, reading, to_spark
from distilspark.data.formats import (
    PARQUET,
    PROBLEM,
    ROW,
    EmptyFileError,
    Format,
    label_value,
    quoted,
    read_fields,
    recognise,
)
from distilspark.data.validation import is_allowed
from distilspark.errors import UserError

OWN = "input"  # the struct that holds a row's own columns
PLAIN_ENDINGS = (".txt", ".text", ".txt.gz", ".text.gz")


@dataclass(frozen=True)
class Group:
    """Files that are read in one go: of one format, or plain text."""

    format: Format | None  # None: plain text
    uris: list[str]


@dataclass(frozen=True)
class Inputs:
    """What `input` stands for."""

    files: list[InputFile]
    groups: list[Group]


def find_inputs(spark: SparkSession, task: TaskConfig, path: str) -> Inputs:
    """The input's files by their formats, known by their first bytes; files without a character have no rows.

    Raises:
        UserError: nothing is there, everything is empty, or a file is not recognised as this task's data.

    """
    inputs = group_files(spark, task, find_files(spark, path))
    if not inputs.groups:
        raise UserError(f"input={path} holds no rows: {inputs.files[-1].uri} is empty. Give a file that holds some")
    return inputs


def group_files(spark: SparkSession, task: TaskConfig, files: list[InputFile]) -> Inputs:
    """The files by their formats; no group at all where none has a row.

    Raises:
        UserError: a file is not recognised as this task's data.

    """
    groups: list[Group] = []
    for file in files:
        with suppress(EmptyFileError):
            _add(groups, _format_of(spark, task, file.uri, groups), file.uri)
    return Inputs(files, groups)


def _add(groups: list[Group], found: Format | None, uri: str) -> None:
    for group in groups:
        if group.format == found:
            group.uris.append(uri)
            return
    groups.append(Group(found, [uri]))


def _format_of(spark: SparkSession, task: TaskConfig, uri: str, groups: list[Group]) -> Format | None:
    """A file's format. Parquet files share the first one's: Spark merges their columns, and says which do not fit."""
    parquet = [group.format for group in groups if group.format and _is_plain_parquet(group.format)]
    if parquet and read_head(spark, uri, len(PARQUET)) == PARQUET:
        return parquet[0]
    try:
        return recognise(spark, task, uri, require_label=False)
    except EmptyFileError:
        raise
    except UserError:
        if task.is_pair or not uri.lower().endswith(PLAIN_ENDINGS):
            raise
    return None


def _is_plain_parquet(known: Format) -> bool:
    return known.kind == "parquet" and not known.gzipped


def read_inputs(spark: SparkSession, task: TaskConfig, inputs: Inputs) -> DataFrame:
    """Every row of the input.

    Returns:
        `input`, a struct of the row's own columns; the task's text columns; `label` (double, null where there is none
        or none of the task's); `problem`, why the row cannot be read, null for a good one. No action runs, but for
        JSON Lines: one that collects their keys.

    Raises:
        UserError: a file cannot be read.

    """
    with reading(", ".join(group.uris[0] for group in inputs.groups)):
        parts = [_read_group(spark, task, group) for group in inputs.groups]
        if len(parts) > 1:
            parts = [part.withColumn(OWN, F.struct(*as_text(part, OWN))) for part in parts]
        return reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), parts)


def _read_group(spark: SparkSession, task: TaskConfig, group: Group) -> DataFrame:
    if group.format is None:
        return _read_plain(spark, group.uris)
    known = replace(group.format, columns=_all_columns(spark, group.format, group.uris))
    fields = read_fields(spark, group.uris, known)
    roles = known.roles
    texts = [F.make_valid_utf8(quoted(roles[name])).alias(name) for name in task.text_columns]
    problem = F.coalesce(PROBLEM, *(_wrong_type(roles[name]) for name in task.text_columns if known.kind == "jsonl"))
    own = F.struct(*map(quoted, known.columns)).alias(OWN)
    return fields.select(own, *texts, _label(task, roles).alias("label"), problem.alias("problem"))


def _read_plain(spark: SparkSession, uris: list[str]) -> DataFrame:
    """A line a row, blank lines too, so that lines can be counted."""
    line = F.regexp_replace(F.make_valid_utf8("value"), "^\ufeff|\r$", "")
    lines = spark.read.text(to_spark(uris), lineSep="\n").select(line.alias("sentence1"))
    empty = [F.lit(None).cast("double").alias("label"), F.lit(None).cast("string").alias("problem")]
    return lines.select(F.struct("sentence1").alias(OWN), "sentence1", *empty)


def _all_columns(spark: SparkSession, known: Format, uris: list[str]) -> tuple[str, ...]:
    """The columns of all files: of parquet by their schemas, of JSON Lines by the keys of every row."""
    if _is_plain_parquet(known) and len(uris) > 1:
        return _merged_columns(spark, uris)
    if known.kind == "jsonl":
        keys = read_fields(spark, uris, known).select(F.explode(F.json_object_keys(ROW)).alias("key")).distinct()
        more = sorted({row["key"] for row in keys.collect()} - set(known.columns))
        return (*known.columns, *more)
    return known.columns


def _merged_columns(spark: SparkSession, uris: list[str]) -> tuple[str, ...]:
    try:
        return tuple(spark.read.parquet(*to_spark(uris), mergeSchema=True).schema.names)
    except SPARK_ERRORS:
        for uri in uris:  # the error need not name the file that it is about
            with reading(uri):
                spark.read.parquet(*to_spark(uri))
        raise


def _wrong_type(name: str) -> Column:
    """JSON's numbers, lists and objects are no text, though Spark reads them as such."""
    kind = F.schema_of_variant(F.from_json(ROW, "map<string,variant>")[name])
    return F.when(~kind.isin("STRING", "VOID"), F.concat(F.lit(f"{name} is no text but "), F.lower(kind)))


def _label(task: TaskConfig, roles: dict[str, str]) -> Column:
    if "label" not in roles:
        return F.lit(None).cast("double")
    label = label_value(quoted(roles["label"]).cast("string"), task)
    return F.when(is_allowed(task, label), label)


def as_text(rows: DataFrame, struct: str) -> list[Column]:
    """A struct's fields as strings: what is nested as JSON, bytes as base64."""
    schema = rows.schema[struct].dataType
    assert isinstance(schema, StructType)
    return [_as_text(F.col(struct).getField(field.name), field).alias(field.name) for field in schema.fields]


def _as_text(column: Column, field: StructField) -> Column:
    if isinstance(field.dataType, StructType | ArrayType | MapType | VariantType):
        return F.to_json(column)
    if isinstance(field.dataType, BinaryType):
        return F.base64(column)
    return column if isinstance(field.dataType, StringType) else column.cast("string")
