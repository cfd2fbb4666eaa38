"""Read parquet files, and convert or refuse types that Spark does not have."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence

import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import (
    DataType,
    DecimalType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructField,
    StructType,
)

from distilspark.data.columns import INPUT, file_of_row, quoted
from distilspark.data.filesystem import open_file, read_all, to_spark
from distilspark.data.input_files import InputFile
from distilspark.data.records import CANONICAL, RAW_CHARACTERS, Format
from distilspark.errors import UserError

FILE = "the file of a row"  # a column name that does not occur in files
MAX_DIGITS = 38  # of Spark's decimals


def read_parquet(spark: SparkSession, files: list[InputFile], known: Format, all_columns: bool) -> DataFrame:
    """Read parquet files of one schema; the columns are those of `distilspark.data.read.read_files`.

    Raises:
        UserError: Spark has no type for a needed column.

    """
    schema = read_schema(spark, files[0].uri, known.gzipped)
    names = [name for name in known.columns if all_columns or name in known.roles.values()]
    kept = pyarrow.schema([schema.field(schema.names.index(name)) for name in names])
    if lost := [f"{field.name} ({field.type})" for field in kept if _is_beyond_spark(field.type)]:
        raise UserError(
            f"{files[0].uri} has columns that Spark cannot read: {', '.join(lost)}. Cast them, or leave them out"
        )
    rows = _open(spark, files, known, kept, all_columns)
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
        for role in CANONICAL
    ]
    raw = F.lit(None).cast("string") if all_columns else F.substring(F.to_json(struct), 1, RAW_CHARACTERS)
    problem = F.coalesce(*problems, F.lit(None).cast("string"))
    found = rows.select(struct.alias(INPUT), *canonical, raw.alias("raw"), problem.alias("problem"))
    return found.withColumns({role: F.make_valid_utf8(role) for role in CANONICAL})


def _open(
    spark: SparkSession, files: list[InputFile], known: Format, kept: pyarrow.Schema, all_columns: bool
) -> DataFrame:
    if known.gzipped:
        tables = []
        for file in files:
            table = pyarrow.parquet.read_table(unpacked(spark, file.uri), columns=kept.names)
            tables.append(_with_constants(table, file.keys, known.keys))
        return spark.createDataFrame(pyarrow.concat_tables(tables))
    reader = spark.read
    if not all_columns:  # Spark then ignores other columns, whatever their types
        reader = reader.schema(StructType([StructField(field.name, _spark_type(field.type)) for field in kept]))
    return _with_keys(spark, reader.parquet(*to_spark([file.uri for file in files])), files, known.keys)


def _spark_type(dtype: pyarrow.DataType) -> DataType:
    """Return the type in which Spark reads a column of labels, texts or ids."""
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
    too_precise = types.is_decimal(dtype) and dtype.precision > MAX_DIGITS
    nested_nanos = is_nested and types.is_timestamp(dtype) and dtype.unit == "ns"
    return types.is_time(dtype) or types.is_float16(dtype) or too_precise or nested_nanos


def _timestamp(nanos: Column, has_zone: bool) -> Column:
    """Convert nanoseconds since 1970, in which Spark reads such timestamps, to a timestamp."""
    moment = F.timestamp_micros(F.call_function("div", nanos - F.pmod(nanos, F.lit(1000)), F.lit(1000)))
    return moment if has_zone else moment.cast("timestamp_ntz")


def _with_keys(spark: SparkSession, rows: DataFrame, files: list[InputFile], keys: Sequence[str]) -> DataFrame:
    """Add the columns from the files' `key=value` folders."""
    if not keys:
        return rows
    values = [(file.uri, *(file.keys[key] for key in keys)) for file in files]
    schema = StructType([StructField(name, StringType()) for name in (FILE, *keys)])
    by_file = F.broadcast(spark.createDataFrame(values, schema))
    return rows.withColumn(FILE, file_of_row()).join(by_file, FILE, "left")


def _with_constants(table: pyarrow.Table, values: dict[str, str | None], names: Sequence[str]) -> pyarrow.Table:
    for name in names:
        table = table.append_column(name, pyarrow.array([values[name]] * len(table), pyarrow.string()))
    return table


def read_schema(spark: SparkSession, uri: str, gzipped: bool) -> pyarrow.Schema:
    """Read a parquet file's schema from its footer."""
    if gzipped:
        return pyarrow.parquet.read_schema(unpacked(spark, uri))
    with open_file(spark, uri) as file:
        return pyarrow.parquet.read_schema(file)


def unpacked(spark: SparkSession, uri: str) -> io.BytesIO:
    """Unpack a gzipped file in memory: parquet is compressed itself, so gzipped parquet should be rare and small."""
    return io.BytesIO(gzip.decompress(read_all(spark, uri)))
