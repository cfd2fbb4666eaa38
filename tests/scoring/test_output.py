"""Input columns are unchanged in the output, in every format and for readers other than Spark."""

from __future__ import annotations

import base64
import csv
import datetime
import json
import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from distilspark.scoring import job, output
from distilspark.scoring.output import write_output
from helpers.scorings import compose_predict

UGLY = [
    *("", " ", "  both  ", "\ttab\t", "\t", "\xa0nbsp\xa0", "\u2003wide\u2003"),
    *('"', '""', 'say "no"', '"all"', ' "q"', '"q" ', 'a""b', "'", "`"),
    *("\\", '\\"', "x\\", 'a\\"b', "\\n", "\\N", "\\u0041"),
    *(",", "a,b", ";", "|", "line\nbreak", "\n", "\n\n", "end\n", "\nstart"),
    *("cr\rin", "\r", "crlf\r\nin", "\r\n", "end\r", "\x85", "\u2028", "\u2029", "\x0b\x0c"),
    *("\0", "nul \0 in", "\x01", "\x1a", "\x1b[0m", "\x7f", "\ufeff", "\ufeffmark"),
    *("é", "e\u0301", "🙂", "👩‍👩‍👧", "\u202eleft", "\ufffd", "\uffff", "İ", "ß", "\U0010ffff"),
    *("#comment", "//", "=1+1", "-", "+", "@", "NULL", "null", "None", "nan", "NaN", "inf", "true"),
    *("007", "1e5", "0x1", "1,5", "{}", "[]", '{"a": 1}', "<a>&amp;</a>", "%20", "2024-01-01", "a\tb,c\"d'e\\f\ng"),
]
CHARACTERS = " \t\n\r\"\\,;'`\0#aé🙂\u2028\ufeff{}[]:/"
NAMES = [
    *("text", "Text", "a b", "a.b", 'say "no"', "c,d", "back`tick", "é", "e\tf"),
    *("row", "truth", "problem", "input", "_row"),
]


def ugly_texts(count: int = 400) -> list[str | None]:
    """Return texts that readers and writers often get wrong, and random ones of the same characters."""
    drawn = random.Random(7)
    made = ["".join(drawn.choices(CHARACTERS, k=drawn.randint(1, 9))) for _ in range(count)]
    return [None, *UGLY, *made]


@pytest.fixture
def written(spark: SparkSession, tmp_path: Path) -> Iterator[Callable[..., list[Path]]]:
    """`written(rows, kind)` writes scored rows and returns the files, sorted by name."""
    changed = {"spark.sql.caseSensitive": "true", **job.PARQUET}
    before = {key: spark.conf.get(key) for key in changed}
    for key, value in changed.items():
        spark.conf.set(key, value)

    def write(rows: DataFrame, kind: str, *overrides: str, chunks: int = 1) -> list[Path]:
        config = compose_predict("input=x", "output=y", f"predict.format={kind}", *overrides)
        write_output(rows, chunks, config, "3", f"file:{tmp_path / kind}")
        return sorted(path for path in (tmp_path / kind).iterdir() if path.name.startswith("part-"))

    yield write
    for key, value in before.items():
        spark.conf.set(key, value)


def scored(own: DataFrame, row: Column | None = None, chunk: Column | None = None) -> DataFrame:
    """Add the columns that `score_rows` adds; every third row has an error."""
    failed = F.col("row") % 3 == 2
    answers = {"prediction": F.lit(1), "label": F.lit("yes"), "score": F.lit(0.75)}
    return own.select(
        F.struct("*").alias("input"),
        (F.monotonically_increasing_id() if row is None else row).alias("row"),
        (F.lit(0) if chunk is None else chunk).alias("chunk"),
    ).select(
        "input",
        "row",
        *(F.when(~failed, answer).alias(name) for name, answer in answers.items()),
        F.when(failed, "is empty").otherwise("").alias("error"),
        "chunk",
    )


def texts(spark: SparkSession, names: list[str] = NAMES) -> tuple[DataFrame, list[list[str | None]]]:
    """Return a frame with unusual texts in columns with unusual names, each text in every column, and its rows."""
    values = ugly_texts()
    columns = range(len(names))
    rows = [[values[(place + 31 * column) % len(values)] for column in columns] for place in range(len(values))]
    schema = ", ".join(f"c{column} string" for column in columns)
    return spark.createDataFrame(rows, schema).coalesce(1).toDF(*names), rows


def test_python_csv_reads_the_texts_unchanged(spark: SparkSession, written: Callable[..., list[Path]]) -> None:
    own, rows = texts(spark)
    (file,) = written(scored(own), "csv")
    with file.open(newline="", encoding="utf-8") as stream:
        header, *found = csv.reader(stream, strict=True)
    assert header == [*NAMES, *ANSWERS]
    assert [row[: len(NAMES)] for row in found] == [[text or "" for text in row] for row in rows]
    assert found[0][len(NAMES) :] == ["1", "yes", "0.75", "", "3"]
    assert found[2][len(NAMES) :] == ["", "", "", "is empty", "3"]


def test_csv_distinguishes_empty_text_from_null(spark: SparkSession, written: Callable[..., list[Path]]) -> None:
    own, rows = texts(spark)
    (file,) = written(scored(own), "csv")
    table = pyarrow.csv.read_csv(
        file,
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(NAMES, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )
    assert [list(row.values()) for row in table.select(NAMES).to_pylist()] == rows
    # by default Spark reads both as null
    options = {"header": True, "escape": '"', "multiLine": True, "nullValue": "\x02"}
    again = spark.read.options(**options).csv(f"file:{file}").collect()
    assert [without_nul(list(row)[: len(NAMES)]) for row in again] == [without_nul(row) for row in rows]


def without_nul(row: list[str | None]) -> list[str | None]:
    """Remove NUL characters, some of which Spark's CSV reader drops."""
    return [text and text.replace("\0", "") for text in row]


def test_python_json_reads_the_texts_unchanged(spark: SparkSession, written: Callable[..., list[Path]]) -> None:
    own, rows = texts(spark)
    (file,) = written(scored(own), "json")
    found = [json.loads(line) for line in file.read_bytes().decode().split("\n")[:-1]]
    assert [list(row.values())[: len(NAMES)] for row in found] == rows
    assert list(found[0]) == [*NAMES, *ANSWERS]
    assert list(found[2].values())[len(NAMES) :] == [None, None, None, "is empty", "3"]


def test_pyarrow_reads_the_texts_of_parquet_unchanged(spark: SparkSession, written: Callable[..., list[Path]]) -> None:
    own, rows = texts(spark)
    (file,) = written(scored(own), "parquet")
    table = pyarrow.parquet.read_table(file)
    assert table.column_names == [*NAMES, *ANSWERS]
    assert [list(row.values()) for row in table.select(NAMES).to_pylist()] == rows


ANSWERS = ["prediction", "label", "score", "error", "model_version"]
ANSWERED = {"prediction": 1, "label": "yes", "score": Decimal("0.75"), "error": "", "model_version": "3"}
TYPED = """
    b boolean, i8 tinyint, i16 smallint, i32 int, i64 bigint, f32 float, f64 double, dec decimal(38, 10), day date,
    at timestamp, local timestamp_ntz, raw binary, list array<string>, map map<string, bigint>,
    nested struct<a: string, at: timestamp, raw: binary, list: array<struct<x: double>>>
"""


def moment(*parts: int) -> datetime.datetime:
    return datetime.datetime(*parts)  # type: ignore[arg-type, misc]


ROWS: list[tuple[Any, ...]] = [
    (
        *(True, -128, 32767, -(2**31), 2**63 - 1, 0.1, 0.1, Decimal("0.0000000001"), datetime.date(1500, 2, 28)),
        *(moment(2024, 2, 29, 23, 59, 59, 123456), moment(1, 1, 1, 0, 0, 0, 1), b'\0\xff\n,"', ["a", None, "", " "]),
        *({"k": 1, "": None}, ("", moment(1969, 12, 31, 23, 59, 59, 999999), b"\xff", [(1.5,), None])),
    ),
    (
        *(False, 0, 0, 0, 2**53 + 1, 1e30, 1e-300, Decimal("-1234567890123456789012345678.0123456789")),
        *(datetime.date(9999, 12, 31), moment(9999, 12, 31, 23, 59, 59, 999999), moment(2300, 1, 1, 0, 0, 0, 0)),
        *(b"", [], {}, (None, None, None, [])),
    ),
    (None,) * 15,
]


def typed(spark: SparkSession) -> DataFrame:
    """Return a row of values that easily lose digits, another row, and a row of nulls."""
    return spark.createDataFrame(ROWS, TYPED).coalesce(1)


def test_typed_values_are_unchanged_in_parquet(spark: SparkSession, written: Callable[..., list[Path]]) -> None:
    (file,) = written(scored(typed(spark)), "parquet")
    table = pyarrow.parquet.read_table(file)
    assert table.schema.field("at").type == pa.timestamp("us", "UTC")
    assert table.schema.field("local").type == pa.timestamp("us")
    wanted = pa.Table.from_pylist([row.asDict(recursive=True) for row in typed(spark).collect()], table.schema)
    assert table.drop_columns(ANSWERS).to_pylist() == wanted.drop_columns(ANSWERS).to_pylist()


def test_typed_values_keep_every_digit_in_json(spark: SparkSession, written: Callable[..., list[Path]]) -> None:
    (file,) = written(scored(typed(spark)), "json")
    first, second, nulls = [json.loads(line, parse_float=Decimal) for line in file.read_text().splitlines()]
    assert first == ANSWERED | {
        **{"b": True, "i8": -128, "i16": 32767, "i32": -(2**31), "i64": 2**63 - 1},
        **{"f32": Decimal("0.1"), "f64": Decimal("0.1"), "dec": Decimal("1E-10"), "day": "1500-02-28"},
        **{"at": "2024-02-29T23:59:59.123456Z", "local": "0001-01-01T00:00:00.000001", "raw": encoded(b'\0\xff\n,"')},
        **{"list": ["a", None, "", " "], "map": {"": None, "k": 1}},
        "nested": {"a": "", "at": "1969-12-31T23:59:59.999999Z", "raw": encoded(b"\xff"), "list": [{"x": 1.5}, None]},
    }
    assert (second["i64"], second["dec"]) == (2**53 + 1, Decimal("-1234567890123456789012345678.0123456789"))
    assert (second["f64"], second["raw"], second["list"], second["map"]) == (Decimal("1E-300"), "", [], {})
    assert second["at"] == "9999-12-31T23:59:59.999999Z"
    assert nulls == dict.fromkeys(first) | {"error": "is empty", "model_version": "3"}


def test_typed_values_keep_every_digit_in_csv(spark: SparkSession, written: Callable[..., list[Path]]) -> None:
    (file,) = written(scored(typed(spark)), "csv")
    with file.open(newline="") as stream:
        first, second, nulls = csv.DictReader(stream, strict=True)
    numbers = {"i8": "-128", "i64": "9223372036854775807", "f32": "0.1", "f64": "0.1", "dec": "0.0000000001"}
    times = {"day": "1500-02-28", "at": "2024-02-29 23:59:59.123456", "local": "0001-01-01 00:00:00.000001"}
    other = {"b": "true", "raw": encoded(b'\0\xff\n,"'), "list": '["a",null,""," "]', "map": '{"":null,"k":1}'}
    assert first.items() >= (numbers | times | other).items()
    nested = {"a": "", "at": "1969-12-31T23:59:59.999999Z", "raw": encoded(b"\xff"), "list": [{"x": 1.5}, None]}
    assert json.loads(first["nested"]) == nested
    assert (second["i64"], second["dec"]) == ("9007199254740993", "-1234567890123456789012345678.0123456789")
    assert (second["at"], second["list"], second["map"]) == ("9999-12-31 23:59:59.999999", "[]", "{}")
    assert set(nulls.values()) == {"", "is empty", "3"}


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


MIXED = ['{"a": [1, null, {"b": 0.1}]}', "5", "1234567890123456789", "0.10", '"text"', '""', "true", "null", "[]", None]


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_json_column_of_mixed_types_is_written_as_json(
    spark: SparkSession, written: Callable[..., list[Path]], kind: str
) -> None:
    """A JSON Lines column with values of several types; an explicit null is read as null."""
    texts = spark.createDataFrame([(text,) for text in MIXED], "mixed string").coalesce(1)
    mixed = F.parse_json("mixed")
    own = texts.select(mixed.alias("mixed"), F.struct(mixed.alias("x")).alias("struct"), F.array(mixed).alias("list"))
    (file,) = written(scored(own), kind)
    wanted = [json.loads(text) if text else None for text in MIXED]
    if kind == "json":
        rows = [json.loads(line) for line in file.read_text().splitlines()]
    else:
        read = pyarrow.parquet.read_table if kind == "parquet" else pyarrow.csv.read_csv
        found = read(file).select(["mixed", "struct", "list"]).to_pylist()
        rows = [{name: json.loads(text) if text else None for name, text in row.items()} for row in found]
        assert [row["mixed"] or None for row in found] == ['{"a":[1,null,{"b":0.1}]}', *NORMAL]
    assert [row["mixed"] for row in rows] == wanted
    assert [row["struct"]["x"] for row in rows] == wanted
    assert [row["list"] for row in rows] == [[value] for value in wanted]


NORMAL = ["5", "1234567890123456789", "0.1", '"text"', '""', "true", None, "[]", None]


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_column_of_nulls_is_kept(spark: SparkSession, written: Callable[..., list[Path]], kind: str) -> None:
    (file,) = written(scored(spark.range(3).select("id", F.lit(None).alias("nothing")).coalesce(1)), kind)
    found = spark.read.format(kind).options(header=True).load(f"file:{file}").select("id", "nothing").collect()
    assert [(int(row["id"]), row["nothing"]) for row in found] == [(0, None), (1, None), (2, None)]


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_files_sorted_by_name_are_in_the_inputs_order(
    spark: SparkSession, written: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Eleven chunks of ten rows, two chunks a file; no file exceeds its row limit."""
    monkeypatch.setattr(output, "ROWS_PER_FILE", 20)
    rows = scored(spark.range(110).repartition(7), F.col("id"), F.expr("int(id div 10)"))
    found = [read(file) for file in written(rows, kind, "predict.rows_per_chunk=10", chunks=11)]
    assert [[int(row["id"]) for row in each] for each in found] == [
        list(range(first, min(first + 20, 110))) for first in range(0, 110, 20)
    ]


def read(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".parquet":
        return pyarrow.parquet.read_table(file).to_pylist()
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream)) if file.suffix == ".csv" else [json.loads(line) for line in stream]


def test_an_empty_output_has_its_columns(spark: SparkSession, written: Callable[..., list[Path]]) -> None:
    own = spark.createDataFrame([], "text string, `a b` bigint")
    names = ["text", "a b", *ANSWERS]
    for kind in ("parquet", "csv"):
        (file,) = written(scored(own), kind)
        assert list(read_header(file)) == names


def read_header(file: Path) -> list[str]:
    if file.suffix == ".parquet":
        return list(pyarrow.parquet.read_schema(file).names)
    with file.open(newline="") as stream:
        return next(csv.reader(stream))
