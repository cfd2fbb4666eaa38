"""The scored rows as their reader gets them: the input's columns first, then what the model says."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from distilspark.config import PredictConfig
from distilspark.data.columns import INPUT as OWN
from distilspark.data.columns import as_text
from distilspark.data.filesystem import SPARK_ERRORS, cause_of
from distilspark.errors import WorkError
from distilspark.scoring.chunks import ROW_NUMBER

ROWS_A_FILE = 1_000_000
BATCH = "batch"  # the column that readers make of a stream's folders, `batch=00000`
OPTIONS: dict[str, dict[str, str | bool]] = {
    "parquet": {},
    "csv": {"header": True, "escape": '"', "emptyValue": ""},  # RFC 4180
    "json": {"ignoreNullFields": False},
}


def free_names(own: Sequence[str], taken: Sequence[str]) -> list[str]:
    """The input's column names; one that an output column has, whatever its case, gets `input_` in front.

    >>> free_names(["id", "Label", "input_label", "text"], ["prediction", "label"])
    ['id', 'input_Label', 'input_input_label', 'text']
    """
    used = {name.lower() for name in taken}
    names = []
    for name in own:
        # an own `input_label` gives way too: names that are taken are only known when all are placed
        while name.lower() in used:
            name = f"input_{name}"
        used.add(name.lower())
        names.append(name)
    return names


def output_columns(scored: DataFrame, config: PredictConfig, version: str) -> list[Column]:
    """Every column of the input, then `prediction`, (`label`, `score`), `error`, `model_version`."""
    answers = [*config.task.head_kind.answer_names, "error"]
    schema = scored.schema[OWN].dataType
    assert isinstance(schema, StructType)
    own = schema.names
    names = free_names(own, [*answers, "model_version", *([BATCH] if config.predict.streaming else [])])
    # CSV knows no nested values
    values = as_text(scored, OWN) if config.predict.format == "csv" else [F.col(OWN).getField(name) for name in own]
    kept = [value.alias(name) for value, name in zip(values, names, strict=True)]
    return [*kept, *map(F.col, answers), F.lit(version).alias("model_version")]


def write_output(scored: DataFrame, rows: int, config: PredictConfig, version: str, target: str) -> None:
    """Write the scored rows in the order in which they were read, a million to a file."""
    files = max(1, math.ceil(rows / ROWS_A_FILE))
    ordered = scored.repartitionByRange(files, ROW_NUMBER).sortWithinPartitions(ROW_NUMBER)
    shown = ordered.select(*output_columns(scored, config, version))
    kind = config.predict.format
    try:
        shown.write.mode("overwrite").format(kind).options(**OPTIONS[kind]).save(target)
    except SPARK_ERRORS as error:
        raise WorkError(
            f"{target} cannot be written: {cause_of(error)}. Start again: nothing is scored twice"
        ) from error
