"""Recognise a file's format by its content, and read it into canonical columns.

Known are TSV without quoting, CSV with it (RFC 4180), parquet and JSON Lines; with a header or, where the task's YAML
says how, without one; any of them gzipped.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from distilspark.config import TaskConfig
from distilspark.data.filesystem import data_files, read_head, reading, to_spark, to_uri
from distilspark.data.validation import ROW_LENGTH, is_allowed, problem_of
from distilspark.errors import UserError

Kind = Literal["tsv", "csv", "jsonl", "parquet"]
Uris = str | Sequence[str]
HEAD_BYTES = 1 << 16
FIRST_ROWS = 50
GZIP, PARQUET, BYTE_ORDER_MARK = b"\x1f\x8b", b"PAR1", "\ufeff"
ROW, PROBLEM = "_row", "_problem"


class EmptyFileError(UserError):
    """A file without a single character."""


@dataclass(frozen=True)
class Format:
    """What a file holds and how it is read."""

    kind: Kind
    gzipped: bool
    header: str | None  # TSV and CSV: the header's line; None where there is no header
    columns: tuple[str, ...]  # the file's own names in its own order; the canonical ones where it has none
    roles: dict[str, str]  # canonical column -> the file's column


@dataclass(frozen=True)
class _Seen:
    """The beginning of a file, taken apart in one way."""

    kind: Kind
    rows: list[list[str]]  # the first row may be a header
    header: str  # the first row as it stands in the file


def read_rows(spark: SparkSession, task: TaskConfig, path: str, require_label: bool) -> DataFrame:
    """Every row of a file or folder in canonical columns, the bad ones with their reason.

    Returns:
        `id` (the file's index column, null where it has none), `sentence1`, `sentence2` (null for single sentences),
        `label` (double, null where it is missing or none of the task's), `source`, `row` (the row's text, shortened)
        and `problem` (null for a good row). No action runs.

    Raises:
        UserError: the path cannot be read, is empty, or is not recognised as this task's data.

    """
    uri = to_uri(path)
    recognised = recognise(spark, task, uri, require_label)
    fields = read_fields(spark, uri, recognised)
    return to_canonical(fields, task, recognised.roles, require_label)


def recognise(spark: SparkSession, task: TaskConfig, uri: str, require_label: bool) -> Format:
    """The format of a file, or of a folder's first file, from its first bytes.

    Raises:
        UserError: nothing there, empty, or not this task's data: names the file, what was seen and what was expected.

    """
    file = data_files(spark, uri)[0]
    raw = read_head(spark, file, HEAD_BYTES)
    gzipped = raw.startswith(GZIP)
    head = _gunzip_head(raw) if gzipped else raw
    if not head:
        raise EmptyFileError(f"{file} is empty. Expected {_expected(task, require_label)}")
    if head.startswith(PARQUET):
        return _recognise_parquet(spark, task, file, gzipped, require_label)
    if gzipped != file.endswith(".gz"):
        seen = "gzip, without the ending" if gzipped else "no gzip, with the ending"
        raise UserError(f"{file} is {seen} .gz, by which Spark goes. Rename it")
    return _recognise_text(task, file, head, len(raw) == HEAD_BYTES, gzipped, require_label)


def _gunzip_head(raw: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(raw, HEAD_BYTES)
    except zlib.error:
        return b"\0"


def _recognise_parquet(spark: SparkSession, task: TaskConfig, file: str, gzipped: bool, require_label: bool) -> Format:
    with reading(file):
        schema = _read_parquet(spark, file, gzipped).schema
    roles = _roles(schema.names, task)
    if not _is_complete(roles, task, require_label):
        raise _unrecognised(task, file, f"parquet with the columns {', '.join(schema.names)}", require_label)
    for text in task.text_columns:
        if (dtype := schema[roles[text]].dataType) != StringType():
            raise _unrecognised(task, file, f"parquet whose {roles[text]} is {dtype.simpleString()}", require_label)
    return Format("parquet", gzipped, None, tuple(schema.names), roles)


def _recognise_text(
    task: TaskConfig, file: str, head: bytes, is_cut: bool, gzipped: bool, require_label: bool
) -> Format:
    text = head.decode("utf-8", errors="replace").removeprefix(BYTE_ORDER_MARK)
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    lines = [line for line in (lines[:-1] if is_cut and len(lines) > 1 else lines) if line.strip()]
    if not lines:
        raise EmptyFileError(f"{file} is empty. Expected {_expected(task, require_label)}")
    for seen in filter(None, (_as_json(lines), _as_tsv(lines), _as_csv(lines))):
        roles = _roles(seen.rows[0], task)
        if _is_complete(roles, task, require_label):
            return Format(seen.kind, gzipped, seen.header, _unique(seen.rows[0]), roles)
        for layout in task.headerless:
            if seen.kind != "jsonl" and _fits(seen.rows, layout, task):
                columns = _unique("" if name == "-" else name for name in layout)
                return Format(seen.kind, gzipped, None, columns, {name: name for name in layout if name != "-"})
    seen_as = f"binary content, first bytes {head[:8].hex(' ')}" if b"\0" in head else _describe(lines)
    raise _unrecognised(task, file, seen_as, require_label)


def _as_json(lines: list[str]) -> _Seen | None:
    """JSON Lines' keys as a header, in the order in which they first appear."""
    if not lines[0].lstrip().startswith("{"):
        return None
    keys: dict[str, None] = {}
    for line in lines:
        try:
            keys.update(dict.fromkeys(json.loads(line)))
        except (ValueError, TypeError):
            continue
    return _Seen("jsonl", [list(keys)], "")


def _as_tsv(lines: list[str]) -> _Seen | None:
    return _Seen("tsv", [line.split("\t") for line in lines[:FIRST_ROWS]], lines[0]) if "\t" in lines[0] else None


def _as_csv(lines: list[str]) -> _Seen:
    rows = list(csv.reader(io.StringIO("\n".join(lines).replace("\r", " ")), strict=False))
    return _Seen("csv", rows[:FIRST_ROWS], lines[0])


def _roles(names: Iterable[str], task: TaskConfig) -> dict[str, str]:
    present = set(names)
    found = {
        canonical: next((alias for alias in aliases if alias in present), None)
        for canonical, aliases in task.columns.items()
    }
    return {canonical: name for canonical, name in found.items() if name is not None}


def _is_complete(roles: dict[str, str], task: TaskConfig, require_label: bool) -> bool:
    return set(roles) >= {*task.text_columns, *(["label"] if require_label else [])}


def _fits(rows: list[list[str]], layout: list[str], task: TaskConfig) -> bool:
    """Whether most rows have the layout's width, and something like a label in its place."""
    wide = [row for row in rows if len(row) == len(layout)]
    labelled = [row for row in wide if _is_like_label(row[layout.index("label")], task)]
    return 2 * len(wide) > len(rows) and 2 * len(labelled) > len(wide)


def _is_like_label(text: str, task: TaskConfig) -> bool:
    try:
        float(text)
    except ValueError:
        return text in task.labels
    return True


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    """The names as column names: what is empty or repeated is called by its place, from 1."""
    unique: list[str] = []
    for place, name in enumerate(names, start=1):
        unique.append(f"column_{place}" if not name or name in unique else name)
    return tuple(unique)


def _unrecognised(task: TaskConfig, file: str, seen: str, require_label: bool) -> UserError:
    return UserError(
        f"{file} is not recognised as task={task.name}. Seen: {seen}. Expected {_expected(task, require_label)}"
    )


def _describe(lines: list[str]) -> str:
    first = lines[0] if len(lines[0]) <= 120 else f"{lines[0][:119]}…"
    separator, width = ("tab", lines[0].count("\t") + 1) if "\t" in lines[0] else ("comma", len(_as_csv(lines).rows[0]))
    return f"{width} {separator}-separated column(s), first line {first!r}"


def _expected(task: TaskConfig, require_label: bool) -> str:
    needed = [*task.text_columns, *(["label"] if require_label else [])]
    header = ", ".join(" or ".join(task.columns[name]) for name in needed)
    layouts = [f"or without a header {len(layout)} columns ({', '.join(layout)})" for layout in task.headerless]
    return " ".join([f"TSV, CSV, JSON Lines or parquet with the columns {header};", *layouts]).rstrip(";")


def read_fields(spark: SparkSession, uri: Uris, recognised: Format) -> DataFrame:
    """The rows of a file, of a folder, or of several files of one format.

    Returns:
        the own columns (text unless it is parquet), then `_row`, the row's text, and `_problem`, null for a good row.

    """
    readers: dict[Kind, Callable[[SparkSession, Uris, Format], DataFrame]] = {
        "tsv": _tsv_fields,
        "csv": _csv_fields,
        "jsonl": _json_fields,
        "parquet": _parquet_fields,
    }
    with reading(uri if isinstance(uri, str) else f"{uri[0]} (and {len(uri) - 1} more)"):
        return readers[recognised.kind](spark, uri, recognised)


def _lines(spark: SparkSession, uri: Uris) -> DataFrame:
    lines = spark.read.text(to_spark(uri), lineSep="\n")
    clean = F.regexp_replace(F.make_valid_utf8("value"), "\r$", "")
    return lines.select(clean.alias(ROW)).where(F.trim(ROW) != "")


def _tsv_fields(spark: SparkSession, uri: Uris, recognised: Format) -> DataFrame:
    lines = _lines(spark, uri)
    if recognised.header is not None:
        lines = lines.where(F.col(ROW) != recognised.header)
    width = len(recognised.columns)
    parts = lines.select(ROW, F.split(ROW, "\t", -1).alias("_parts")).withColumn("_width", F.size("_parts"))
    wrong = F.concat(F.col("_width").cast("string"), F.lit(f" columns instead of {width}"))
    return parts.select(
        *(F.get("_parts", F.lit(place)).alias(name) for place, name in enumerate(recognised.columns)),
        ROW,
        F.when(F.col("_width") != width, wrong).alias(PROBLEM),
    )


def _csv_fields(spark: SparkSession, uri: Uris, recognised: Format) -> DataFrame:
    rows = spark.read.csv(
        to_spark(uri),
        schema=_strings((*recognised.columns, PROBLEM)),
        header=recognised.header is not None,
        quote='"',
        escape='"',
        multiLine=True,
        columnNameOfCorruptRecord=PROBLEM,
    )
    names = [quoted(name) for name in recognised.columns]
    whole = F.coalesce(F.col(PROBLEM), F.to_csv(F.struct(*names)))
    wrong = F.when(F.col(PROBLEM).isNotNull(), f"not {len(names)} columns of CSV")
    return rows.select(*names, whole.alias(ROW), wrong.alias(PROBLEM))


def _json_fields(spark: SparkSession, uri: Uris, recognised: Format) -> DataFrame:
    schema = _strings((*recognised.columns, PROBLEM))
    parsed = F.from_json(ROW, schema, {"columnNameOfCorruptRecord": PROBLEM})
    rows = _lines(spark, uri).select(ROW, parsed.alias("_parsed"))
    return rows.select(
        *(F.col("_parsed").getField(name).alias(name) for name in recognised.columns),
        ROW,
        F.when(F.col("_parsed").getField(PROBLEM).isNotNull(), "not a JSON object").alias(PROBLEM),
    )


def _parquet_fields(spark: SparkSession, uri: Uris, recognised: Format) -> DataFrame:
    rows = _read_parquet(spark, uri, recognised.gzipped)
    names = [quoted(name) for name in recognised.columns]
    return rows.select(*names, F.to_json(F.struct(*names)).alias(ROW), F.lit(None).cast("string").alias(PROBLEM))


def _read_parquet(spark: SparkSession, uri: Uris, gzipped: bool) -> DataFrame:
    """Gzip round parquet, which compresses by itself, is for single small files: the driver unpacks it."""
    if not gzipped:
        return spark.read.parquet(*to_spark(uri), mergeSchema=not isinstance(uri, str))
    packed = spark.read.format("binaryFile").load(to_spark(uri)).select("content").collect()
    tables = [pyarrow.parquet.read_table(io.BytesIO(gzip.decompress(row.content))) for row in packed]
    return spark.createDataFrame(pyarrow.concat_tables(tables))


def _strings(names: Iterable[str]) -> StructType:
    return StructType([StructField(name, StringType()) for name in names])


def quoted(name: str) -> Column:
    """A column by its exact name, whatever stands in it."""
    return F.col(f"`{name.replace('`', '``')}`")


def to_canonical(fields: DataFrame, task: TaskConfig, roles: dict[str, str], require_label: bool) -> DataFrame:
    """The file's columns under their canonical names, checked; see `read_rows`."""
    as_text = {
        canonical: F.make_valid_utf8(quoted(roles[canonical]).cast("string"))
        if canonical in roles
        else F.lit(None).cast("string")
        for canonical in ("id", "sentence1", "sentence2", "label", "source")
    }
    texts = fields.select(*(column.alias(name) for name, column in as_text.items()), ROW, PROBLEM)
    label = label_value(F.col("label"), task)
    return texts.select(
        F.nullif("id", F.lit("")).alias("id"),
        "sentence1",
        "sentence2",
        F.when(is_allowed(task, label), label).alias("label"),
        F.nullif("source", F.lit("")).alias("source"),
        F.substring(ROW, 1, ROW_LENGTH).alias("row"),
        F.coalesce(PROBLEM, problem_of(task, label, require_label)).alias("problem"),
    )


def label_value(label: Column, task: TaskConfig) -> Column:
    """A label's text as a number: a label's name as its id, anything else as the number that it is, or null."""
    trimmed = F.trim(label)
    number = trimmed.try_cast("double")
    if not task.labels:
        return number
    ids = F.create_map(*(F.lit(part) for place, name in enumerate(task.labels) for part in (name, float(place))))
    return F.coalesce(ids[trimmed], number)
