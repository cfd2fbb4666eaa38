"""The output of scoring: the input's columns, then the answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    DataType,
    MapType,
    NullType,
    StructType,
    VariantType,
)

from distilspark.config import PredictConfig
from distilspark.data.columns import INPUT
from distilspark.data.filesystem import SPARK_ERRORS, cause_of
from distilspark.drift.summary import ROW_NUMBER
from distilspark.errors import WorkError
from distilspark.scoring.chunks import CHUNK

ROWS_PER_FILE = 1_000_000
BATCH = "batch"  # the column that readers derive from a stream's folders, `batch=00000`
# Spark's default formats stop at milliseconds
JSON = {
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}
OPTIONS: dict[str, Mapping[str, str | bool]] = {
    "parquet": {},
    # RFC 4180; an empty text is "", null is nothing
    "csv": {
        "header": True,
        "escape": '"',
        "ignoreLeadingWhiteSpace": False,
        "ignoreTrailingWhiteSpace": False,
        "lineSep": "\n",
    },
    "json": JSON,
}


def free_names(own: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Return the input's column names; one that equals an output column, whatever its case, gets the prefix `input_`.

    >>> free_names(["id", "Label", "input_label", "text"], ["prediction", "label"])
    ['id', 'input_Label', 'input_input_label', 'text']
    >>> free_names(["id", "Id", "input_Label", "label"], ["label"])
    ['id', 'Id', 'input_Label', 'input_input_label']
    """
    blocked, placed = {name.lower() for name in taken}, set[str]()
    names = []
    for name in own:
        free = name
        # the input's own `input_label` may be renamed too: the names in use are known only at the end
        while free.lower() in blocked or (free != name and free.lower() in placed):
            free = f"input_{free}"
        blocked.update({free.lower()} if free != name else ())
        placed.add(free.lower())
        names.append(free)
    return names


def output_columns(scored: DataFrame, config: PredictConfig, version: str) -> list[Column]:
    """Return every column of the input, then `prediction`, (`label`, `score`), `error`, `model_version`."""
    answers = [*config.task.head_kind.answer_names, "error"]
    schema = scored.schema[INPUT].dataType
    assert isinstance(schema, StructType)
    names = free_names(schema.names, [*answers, "model_version", *([BATCH] if config.predict.streaming else [])])
    shown = _SHOWN[config.predict.format]
    own = [shown(F.col(INPUT).getField(field.name), field.dataType) for field in schema.fields]
    kept = [value.alias(name) for value, name in zip(own, names, strict=True)]
    return [*kept, *map(F.col, answers), F.lit(version).alias("model_version")]


def _as_parquet(value: Column, kind: DataType) -> Column:
    """Convert variants to JSON text, which every parquet reader supports."""
    if isinstance(kind, NullType):
        return value.cast("string")
    return _as_json_text(value, kind) if _holds_variant(kind) else value


def _as_csv(value: Column, kind: DataType) -> Column:
    """Convert to text: nested values to JSON, bytes to base64, times in UTC."""
    if isinstance(kind, StructType | ArrayType | MapType | VariantType):
        return _as_json_text(value, kind)
    return F.base64(value) if isinstance(kind, BinaryType) else value.cast("string")


def _as_json(value: Column, kind: DataType) -> Column:
    return value.cast("string") if isinstance(kind, NullType) else value


def _as_json_text(value: Column, kind: DataType) -> Column:
    text = F.to_json(value, JSON)
    return F.when(~F.is_variant_null(value), text) if isinstance(kind, VariantType) else text


def _holds_variant(kind: DataType) -> bool:
    if isinstance(kind, StructType):
        return any(_holds_variant(field.dataType) for field in kind.fields)
    if isinstance(kind, MapType):
        return _holds_variant(kind.valueType)
    return _holds_variant(kind.elementType) if isinstance(kind, ArrayType) else isinstance(kind, VariantType)


_SHOWN = {"parquet": _as_parquet, "csv": _as_csv, "json": _as_json}


def write_output(scored: DataFrame, chunks: int, config: PredictConfig, version: str, target: str) -> None:
    """Write the scored rows in input order: neighbouring chunks together, about a million rows a file.

    File names sort in this order, as they begin with the partition's number.
    """
    together = max(1, ROWS_PER_FILE // config.predict.rows_per_chunk)
    files = math.ceil(chunks / together)
    file = F.expr(f"int({CHUNK} div {together})")
    placed = scored.repartitionById(files, file) if files > 1 else scored.coalesce(1)
    shown = placed.sortWithinPartitions(ROW_NUMBER).select(*output_columns(scored, config, version))
    kind = config.predict.format
    try:
        shown.write.mode("overwrite").format(kind).options(**OPTIONS[kind], maxRecordsPerFile=ROWS_PER_FILE).save(
            target
        )
    except SPARK_ERRORS as error:
        raise WorkError(
            f"{target} cannot be written: {cause_of(error)}. Start again: nothing is scored twice"
        ) from error
