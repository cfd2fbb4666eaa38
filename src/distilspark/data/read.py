"""Read every record of the files that a path stands for: the reader of training, evaluation, scoring and streams."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain
from typing import IO, cast

import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
from pyspark import cloudpickle
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, from_arrow_type
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    DecimalType,
    IntegerType,
    IntegralType,
    LongType,
    MapType,
    ShortType,
    StringType,
    StructField,
    StructType,
    VariantType,
)

from distilspark.config import TaskConfig
from distilspark.data import records, survey
from distilspark.data.filesystem import open_file, reading, to_spark
from distilspark.data.input_files import InputFile, find_files
from distilspark.data.labels import is_allowed, label_problem, label_value
from distilspark.data.recognise import PLAIN_ENDINGS, EmptyFileError, read_schema, recognise, unpacked
from distilspark.data.records import Format, arrow_schema, read_records, split_by_file, to_batches
from distilspark.data.survey import Survey, complete, join_surveys, survey_lines, with_quoting
from distilspark.data.text_rules import MAX_CHARACTERS, text_problem_column
from distilspark.errors import UserError

FILE = "the file of a row"  # a column's name that no file has
MOST_DIGITS = 38  # of Spark's decimals
INPUT = "input"  # the struct of a record's own columns
GZIP_RATIO = 16  # of text, at most in earnest
LOCAL_BYTES = 16 << 20  # so much text is read by the driver itself, which takes less time than a Spark job
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
    """Find a path's files, recognise each by itself, and survey those of text; files without a character have no rows.

    Raises:
        UserError: nothing is there, everything is empty, or a file cannot be read without a loss.

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
    """Group files by their formats; no group at all where none has a row. Errors as `find_inputs`."""
    found: list[tuple[InputFile, Format]] = []
    for file in files:
        with suppress(EmptyFileError):
            found.append((file, recognise(spark, task, file, require_label, plain_text)))
    _check_parts(found)
    groups = [Group(known, [file for file, _ in part]) for known, part in _by_format(found)]
    return Inputs(files, [whole for group in groups for whole in _surveyed(spark, group)])


def _by_format(found: Sequence[tuple[InputFile, Format]]) -> list[tuple[Format, list[tuple[InputFile, Format]]]]:
    """JSON Lines that differ in their keys only are of one format, which has the keys of all."""
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
    """Complete a text format by what a look at all lines shows; files that differ in it become groups of their own."""
    if group.format.kind in ("parquet", "text"):
        yield group
        return
    surveys = _survey(spark, group)
    for file in group.files:
        if refusal := surveys[file.uri].refusal:
            raise UserError(f"{file.uri}, {refusal}. Mend the file: nothing of it was read")
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
    return {file.uri: join_surveys(row["survey"] for row in found if row["file"] == file.uri) for file in group.files}


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
    """Read lines as `file` (URI), `start` (byte at which their block begins) and `value`; a file in order if asked."""
    lines = spark.read.text(to_spark(group.uris), lineSep="\n").select(
        _file_of_row().alias("file"),
        F.col("_metadata.file_block_start").alias("start"),
        F.col("value").cast("binary").alias("value"),
    )
    if not in_order:
        return lines
    placed = lines.withColumn("place", F.monotonically_increasing_id())
    return placed.repartition("file").sortWithinPartitions("file", "start", "place").drop("place")


def read_records_of(spark: SparkSession, inputs: Inputs, task: TaskConfig, all_columns: bool) -> DataFrame:
    """Read every record once. No action runs.

    Returns:
        `input`, a struct of the record's own columns (of parquet just those that play a role, without `all_columns`);
        `id`, `sentence1`, `sentence2`, `label`, `source` (strings; null where the file has none); `raw`, the record's
        text, shortened; `problem`, the reason why it cannot be read, null for a good one.

    Raises:
        UserError: a file cannot be read, or a column cannot be kept; names both.

    """
    parts = []
    for group in inputs.groups:
        with reading(_name(group)):
            read = _parquet_records if group.format.kind == "parquet" else _text_records
            parts.append(read(spark, group, task, all_columns))
    return reduce(DataFrame.unionByName, _with_the_same_columns(parts))


def read_rows(
    spark: SparkSession, task: TaskConfig, path: str, require_label: bool, max_characters: int = MAX_CHARACTERS
) -> DataFrame:
    """Read every row of a file or folder in canonical columns, the bad ones with their reason.

    Returns:
        `id` (the file's index column, null where it has none), `sentence1`, `sentence2` (null for single sentences),
        `label` (double, null where it is missing or none of the task's), `source`, `row` (the row's text, shortened)
        and `problem` (null for a good row). No action runs.

    Raises:
        UserError: as `find_inputs` and `read_records_of`.

    """
    inputs = find_inputs(spark, task, path, require_label, plain_text=False)
    found = read_records_of(spark, inputs, task, all_columns=False)
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
        `input`, a struct of the row's own columns; the task's text columns; `label` (double, null where there is none
        or none of the task's); `problem`, the reason why the row cannot be read, null for a good one. No action runs.

    Raises:
        UserError: as `read_records_of`.

    """
    found = read_records_of(spark, inputs, task, all_columns=True)
    label = label_value(F.col("label"), task)
    return found.select(INPUT, *task.text_columns, F.when(is_allowed(task, label), label).alias("label"), "problem")


def _text_records(spark: SparkSession, group: Group, task: TaskConfig, all_columns: bool) -> DataFrame:
    known = group.format
    schema = arrow_schema(known)
    if _is_small(group):
        found = chain.from_iterable(
            to_batches(read_records(_local_lines(spark, file, group), known, starts_file=True), known, file.keys)
            for file in group.files
        )
        batches = list(found)
        rows = (
            spark.createDataFrame(pyarrow.Table.from_batches(batches, schema))
            if batches
            else spark.createDataFrame([], from_arrow_schema(schema))
        )
    else:
        keys = {file.uri: file.keys for file in group.files} if known.keys else {}

        def read_files(batches: Iterator[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
            for file, starts_file, lines in split_by_file(batches, by_block=not known.has_breaks):
                yield from to_batches(read_records(lines, known, starts_file), known, keys.get(file, {}))

        rows = _spark_lines(spark, group, in_order=known.has_breaks).mapInArrow(read_files, from_arrow_schema(schema))
    if "json" not in known.types:
        return rows
    kinds = dict(zip(known.columns, known.types, strict=True))
    values = {name: _field(name) for name in (*known.columns, *known.keys)}
    nested = [
        (F.parse_json(value) if kinds.get(name) == "json" else value).alias(name) for name, value in values.items()
    ]
    return rows.withColumn(INPUT, F.struct(*nested))


def _field(name: str) -> Column:
    return F.col(INPUT).getField(name)


def quoted(name: str) -> Column:
    """Return a column by its exact name, whatever stands in it."""
    return F.col(f"`{name.replace('`', '``')}`")


def _parquet_records(spark: SparkSession, group: Group, task: TaskConfig, all_columns: bool) -> DataFrame:
    known = group.format
    schema = read_schema(spark, group.uris[0], known.gzipped)
    names = [name for name in known.columns if all_columns or name in known.roles.values()]
    kept = pyarrow.schema([schema.field(schema.names.index(name)) for name in names])
    if lost := [f"{field.name} ({field.type})" for field in kept if _is_beyond_spark(field.type)]:
        raise UserError(
            f"{group.uris[0]} has columns that Spark cannot read: {', '.join(lost)}. Cast them, or leave them out"
        )
    rows = _open_parquet(spark, group, kept, all_columns)
    own = {name: quoted(name) for name in (*names, *known.keys)}
    problems = []
    for field in kept:
        if pyarrow.types.is_timestamp(field.type) and field.type.unit == "ns":
            nanos = own[field.name]
            own[field.name] = _timestamp(nanos, has_zone=field.type.tz is not None)
            problems.append(F.when(nanos % 1000 != 0, f"{field.name} has nanoseconds, which Spark cannot keep"))
    struct = F.struct(*(value.alias(name) for name, value in own.items()))
    canonical = [
        (own[known.roles[role]].cast("string") if role in known.roles else F.lit(None).cast("string")).alias(role)
        for role in records.CANONICAL
    ]
    raw = F.lit(None).cast("string") if all_columns else F.substring(F.to_json(struct), 1, records.RAW_CHARACTERS)
    problem = F.coalesce(*problems, F.lit(None).cast("string"))
    found = rows.select(struct.alias(INPUT), *canonical, raw.alias("raw"), problem.alias("problem"))
    return found.withColumns({role: F.make_valid_utf8(role) for role in records.CANONICAL})


def _open_parquet(spark: SparkSession, group: Group, kept: pyarrow.Schema, all_columns: bool) -> DataFrame:
    if group.format.gzipped:
        tables = []
        for file in group.files:
            table = pyarrow.parquet.read_table(unpacked(spark, file.uri), columns=kept.names)
            tables.append(_with_constants(table, file.keys, group.format.keys))
        return spark.createDataFrame(pyarrow.concat_tables(tables))
    reader = spark.read
    if not all_columns:  # Spark looks at no other column then, whatever its type
        reader = reader.schema(StructType([StructField(field.name, _spark_type(field.type)) for field in kept]))
    return _with_keys(spark, reader.parquet(*to_spark(group.uris)), group)


def _spark_type(dtype: pyarrow.DataType) -> DataType:
    """Return the type as which Spark reads a column of labels, texts or ids."""
    if pyarrow.types.is_dictionary(dtype):
        return _spark_type(dtype.value_type)
    if pyarrow.types.is_unsigned_integer(dtype):
        return {8: ShortType(), 16: IntegerType(), 32: LongType(), 64: DecimalType(20, 0)}[dtype.bit_width]
    if pyarrow.types.is_timestamp(dtype) and dtype.unit == "ns":
        return LongType()
    return from_arrow_type(dtype, prefer_timestamp_ntz=True)


def _is_beyond_spark(dtype: pyarrow.DataType, is_nested: bool = False) -> bool:
    types = pyarrow.types
    if types.is_dictionary(dtype):
        return _is_beyond_spark(dtype.value_type, is_nested)
    if types.is_nested(dtype):
        return any(_is_beyond_spark(dtype.field(place).type, is_nested=True) for place in range(dtype.num_fields))
    too_precise = types.is_decimal(dtype) and dtype.precision > MOST_DIGITS
    nested_nanos = is_nested and types.is_timestamp(dtype) and dtype.unit == "ns"
    return types.is_time(dtype) or types.is_float16(dtype) or too_precise or nested_nanos


def _timestamp(nanos: Column, has_zone: bool) -> Column:
    """Return nanoseconds since 1970, as which Spark reads such timestamps, as a timestamp."""
    moment = F.timestamp_micros(F.call_function("div", nanos - F.pmod(nanos, F.lit(1000)), F.lit(1000)))
    return moment if has_zone else moment.cast("timestamp_ntz")


def _with_keys(spark: SparkSession, rows: DataFrame, group: Group) -> DataFrame:
    """Add the columns that the files' folders give."""
    if not group.format.keys:
        return rows
    values = [(file.uri, *(file.keys[key] for key in group.format.keys)) for file in group.files]
    schema = StructType([StructField(name, StringType()) for name in (FILE, *group.format.keys)])
    keys = F.broadcast(spark.createDataFrame(values, schema))
    return rows.withColumn(FILE, _file_of_row()).join(keys, FILE, "left")


def _file_of_row() -> Column:
    """Return the URI of the file that Spark reads a row from, as `InputFile` has it."""
    return F.url_decode(F.replace("_metadata.file_path", F.lit("+"), F.lit("%2B")))


def _with_constants(table: pyarrow.Table, values: dict[str, str | None], names: Sequence[str]) -> pyarrow.Table:
    for name in names:
        table = table.append_column(name, pyarrow.array([values[name]] * len(table), pyarrow.string()))
    return table


def _with_the_same_columns(parts: list[DataFrame]) -> list[DataFrame]:
    """Give all parts the columns of all, by name; a column that has several types becomes the text of its values."""
    if len(parts) == 1:
        return parts
    types: dict[str, set[DataType]] = {}
    for part in parts:
        for field in _fields(part, INPUT):
            types.setdefault(field.name, set()).add(field.dataType)
    common = {name: _common_type(found) for name, found in types.items()}
    return [part.withColumn(INPUT, F.struct(*_columns_as(part, common))) for part in parts]


def _common_type(types: set[DataType]) -> DataType:
    if len(types) == 1:
        return next(iter(types))
    return LongType() if all(isinstance(each, IntegralType) for each in types) else StringType()


def _columns_as(part: DataFrame, types: dict[str, DataType]) -> Iterator[Column]:
    fields = {field.name: field for field in _fields(part, INPUT)}
    for name, dtype in types.items():
        if name not in fields:
            yield F.lit(None).cast(dtype).alias(name)
        elif dtype == fields[name].dataType:
            yield _field(name).alias(name)
        else:
            value = _as_text(_field(name), fields[name]) if dtype == StringType() else _field(name).cast(dtype)
            yield value.alias(name)


def as_text(rows: DataFrame, struct: str) -> list[Column]:
    """Return a struct's fields as strings: nested ones as JSON, bytes as base64."""
    return [_as_text(F.col(struct).getField(field.name), field).alias(field.name) for field in _fields(rows, struct)]


def _fields(rows: DataFrame, struct: str) -> list[StructField]:
    return cast(StructType, rows.schema[struct].dataType).fields


def _as_text(column: Column, field: StructField) -> Column:
    if isinstance(field.dataType, StructType | ArrayType | MapType | VariantType):
        return F.to_json(column)
    if isinstance(field.dataType, BinaryType):
        return F.base64(column)
    return column if isinstance(field.dataType, StringType) else column.cast("string")
