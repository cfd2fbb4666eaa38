"""Columns of the rows that were read: `input`, a struct of the row's own columns, and columns by their exact names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    IntegralType,
    LongType,
    MapType,
    StringType,
    StructField,
    StructType,
    VariantType,
)

INPUT = "input"


def quoted(name: str) -> Column:
    """Return a column by its exact name, which may hold any character."""
    return F.col(f"`{name.replace('`', '``')}`")


def own_column(name: str) -> Column:
    """Return one of a row's own columns."""
    return F.col(INPUT).getField(name)


def file_of_row() -> Column:
    """Return the URI of the file that Spark reads a row from, as `InputFile` has it."""
    return F.url_decode(F.replace("_metadata.file_path", F.lit("+"), F.lit("%2B")))


def with_the_same_columns(parts: list[DataFrame]) -> list[DataFrame]:
    """Give all parts the union of their columns, by name; different types become a common type or text."""
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
            yield own_column(name).alias(name)
        else:
            value = _as_text(own_column(name), fields[name]) if dtype == StringType() else own_column(name).cast(dtype)
            yield value.alias(name)


def _fields(rows: DataFrame, struct: str) -> list[StructField]:
    return cast(StructType, rows.schema[struct].dataType).fields


def _as_text(column: Column, field: StructField) -> Column:
    if isinstance(field.dataType, StructType | ArrayType | MapType | VariantType):
        return F.to_json(column)
    if isinstance(field.dataType, BinaryType):
        return F.base64(column)
    return column if isinstance(field.dataType, StringType) else column.cast("string")
