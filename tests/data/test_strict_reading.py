"""Inputs that a lenient reader would drop, join or change."""

from __future__ import annotations

import gzip
import json
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import Row, SparkSession

from distilspark.config import TaskConfig
from distilspark.data import read
from distilspark.data.read import find_inputs, read_inputs, read_rows
from distilspark.errors import UserError

Read = Callable[..., list[Row]]
NOISE = np.random.default_rng(0).bytes(5000)


@pytest.fixture(params=["by the driver", "by Spark"])
def rows(
    request: pytest.FixtureRequest, spark: SparkSession, cola: TaskConfig, monkeypatch: pytest.MonkeyPatch
) -> Read:
    """Read a path as scoring does, with both ways of reading lines."""
    if request.param == "by Spark":
        monkeypatch.setattr(read, "LOCAL_BYTES", -1)
    return lambda path, task=cola: read_inputs(spark, task, find_inputs(spark, task, str(path))).collect()


def write(file: Path, content: str | bytes) -> Path:
    """Write a file and create its parent folders."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def texts(found: list[Row]) -> list[str]:
    """Return the sorted sentences."""
    return sorted(row["sentence1"] for row in found)


@pytest.mark.parametrize(
    "content, message",
    [
        ('id,sentence\n1,A cat.\n2,"A dog.\n3,A cow.\n', r"line 3: .*quote.*never closed"),
        ('"id,sentence\n1,A cat.\n2,A dog.\n', r"line 1: .*quote.*never closed"),
        ('id,sentence\n1,A cat.\n"2,A dog.\n3,A cow.\n', r"line 3: .*quote.*never closed"),
        ('id,sentence\n1,"A cat." and more\n', r"line 2: .*quote.*' '"),
        ('id,sentence\n1,"A cat\n2,A dog\n3,A 15"\n4,A cow\n', r"line 2: .*quote.*line 4"),
        ("id,sentence\n1,A cat.\n2,A\rdog.\n", r"line 3 .*carriage return"),
        ("id,sentence\r1,A cat.\r2,A dog.\r", "line ends"),
        ('"sentence"\t"id"\n"A cat."\t"1"\n"A "dog"."\t"2"\n', r"line 3: .*quote"),
    ],
)
def test_broken_csv_is_refused_with_its_line(rows: Read, tmp_path: Path, content: str, message: str) -> None:
    file = write(tmp_path / "rows.csv", content)
    with pytest.raises(UserError, match=message) as caught:
        rows(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "id,sentence\r\n1,A cat.\n2,A dog.\r\n",
        "\n  \nid,sentence\n1,A cat.\n\n2,A dog.\n\n",
        '"id","sentence"\n"1","A cat."\n"2","A dog."',
        "id\tsentence\r\n1\tA cat.\n2\tA dog.\r\n",
        '{"id": "1", "sentence": "A cat."}\r\n\n{"id": "2", "sentence": "A dog."}',
    ],
)
def test_mixed_line_ends_blank_lines_and_quoting_do_not_change_the_rows(
    rows: Read, tmp_path: Path, content: str
) -> None:
    found = rows(write(tmp_path / "rows.csv", content))
    assert [(row["input"]["id"], row["sentence1"], row["problem"]) for row in found] == [
        ("1", "A cat.", None),
        ("2", "A dog.", None),
    ]


def test_rows_of_another_width_and_repeated_headers_are_bad_rows(rows: Read, tmp_path: Path) -> None:
    content = "id,sentence\n1,A cat.\n2\n3,A dog.,more\nid,sentence\n4,A cow.\n"
    problems = [row["problem"] for row in rows(write(tmp_path / "rows.csv", content))]
    assert problems == [None, "1 columns instead of 2", "3 columns instead of 2", "the header once more", None]


def test_quotes_in_unquoted_tsv_are_kept_as_text(rows: Read, tmp_path: Path) -> None:
    lines = ['"Yes," he said.', '"All of it."', 'An open "quote', '"', 'ends "so"']
    content = "id\tsentence\n" + "".join(f"{n}\t{text}\n" for n, text in enumerate(lines))
    assert texts(rows(write(tmp_path / "rows.tsv", content))) == sorted(lines)


def test_quoted_tsv_is_unquoted(rows: Read, tmp_path: Path) -> None:
    frame = pd.DataFrame({"sentence": ['Say "no".', "A tab\there.", "Two\nlines.", "plain"], "id": range(4)})
    frame.to_csv(tmp_path / "rows.tsv", sep="\t", index=False)
    assert texts(rows(tmp_path / "rows.tsv")) == sorted(frame["sentence"])


def test_csv_written_by_spark_is_read(spark: SparkSession, rows: Read, tmp_path: Path) -> None:
    sentences = ['He said "hi".', "back\\slash", 'both \\ "', "ends, \\", "two\nlines, \\"]
    frame = pd.DataFrame({"sentence": sentences, "id": range(5)})
    spark.createDataFrame(frame).coalesce(1).write.csv(str(tmp_path / "out"), header=True)
    assert texts(rows(tmp_path / "out")) == sorted(sentences)


def test_null_and_empty_differ_in_csv(rows: Read, tmp_path: Path) -> None:
    found = rows(write(tmp_path / "rows.csv", 'sentence,a,b\nA cat.,,""\n'))
    assert found[0]["input"].asDict() == {"sentence": "A cat.", "a": None, "b": ""}


def test_each_part_of_a_folder_may_have_its_own_format_and_column_order(rows: Read, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.csv", "id,sentence\n1,A cat.\n")
    write(tmp_path / "in" / "b.csv", "sentence,id\nA dog.,2\n")
    write(tmp_path / "in" / "c.csv", 'sentence\tid\n"A\tcow."\t3\n')
    write(tmp_path / "in" / "d.csv.gz", gzip.compress(b'{"id": "4", "sentence": "A hen."}\n'))
    found = {row["input"]["id"]: row["sentence1"] for row in rows(tmp_path / "in")}
    assert found == {"1": "A cat.", "2": "A dog.", "3": "A\tcow.", "4": "A hen."}


@pytest.mark.parametrize("ending", ["", ".csv", ".txt"])
def test_a_header_in_the_first_part_only_is_refused(rows: Read, tmp_path: Path, ending: str) -> None:
    write(tmp_path / "in" / f"xaa{ending}", "id,sentence\n1,A cat.\n")
    write(tmp_path / "in" / f"xab{ending}", "2,A dog.\n3,A cow.\n")
    with pytest.raises(UserError, match=rf"xab{ending} "):
        rows(tmp_path / "in")


def test_part_without_a_header_is_refused_even_if_it_fits_a_layout(
    spark: SparkSession, stsb: TaskConfig, tmp_path: Path
) -> None:
    write(tmp_path / "in" / "a.csv", "sentence2,sentence1,label\nB,A,1.0\n")
    write(tmp_path / "in" / "b.csv", "D,C,2.0\n")
    with pytest.raises(UserError, match=r"b\.csv .*header.*cat PART"):
        read_rows(spark, stsb, str(tmp_path / "in"), require_label=True)


@pytest.mark.parametrize("kind", ["csv", "parquet", "parquet.gz"])
def test_partition_folders_become_columns(rows: Read, tmp_path: Path, kind: str) -> None:
    for day, lang in (("2024-01-01", "en x"), ("2024-01-02", "a/b+c%"), ("2024-01-03", None)):
        name = "__HIVE_DEFAULT_PARTITION__" if lang is None else lang.replace("%", "%25").replace("/", "%2F")
        folder = tmp_path / "in" / f"day={day}" / f"lang={name}"
        folder.mkdir(parents=True)
        frame = pd.DataFrame({"sentence": [f"Day {day}."], "n": [1]})
        if kind == "csv":
            frame.to_csv(folder / "rows.csv", index=False)
        else:
            frame.to_parquet(folder / "rows.parquet")
            if kind.endswith("gz"):
                packed = gzip.compress((folder / "rows.parquet").read_bytes())
                (folder / "rows.parquet").unlink()
                (folder / "rows.parquet.gz").write_bytes(packed)
    found = {row["sentence1"]: (row["input"]["day"], row["input"]["lang"]) for row in rows(tmp_path / "in")}
    assert found == {
        "Day 2024-01-01.": ("2024-01-01", "en x"),
        "Day 2024-01-02.": ("2024-01-02", "a/b+c%"),
        "Day 2024-01-03.": ("2024-01-03", None),
    }
    assert len(rows(tmp_path / "in" / "day=*")) == 3
    assert "day" in rows(tmp_path / "in" / "day=2024*")[0]["input"].asDict()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_partition_folders_may_hold_the_label(spark: SparkSession, cola: TaskConfig, tmp_path: Path, kind: str) -> None:
    for label in (0, 1):
        folder = tmp_path / "train" / f"label={label}"
        folder.mkdir(parents=True)
        frame = pd.DataFrame({"sentence": [f"Class {label}."]})
        frame.to_csv(folder / "a.csv", index=False) if kind == "csv" else frame.to_parquet(folder / "a.parquet")
    found = read_rows(spark, cola, str(tmp_path / "train"), require_label=True).collect()
    assert {row["sentence1"]: row["label"] for row in found} == {"Class 0.": 0.0, "Class 1.": 1.0}


@pytest.mark.parametrize(
    "marker, kind",
    [("_delta_log/00.json", "Delta"), (".hoodie/x.commit", "Hudi"), ("metadata/v1.metadata.json", "Iceberg")],
)
@pytest.mark.parametrize("inside", ["", "data", "data/day=1/part.csv"])
def test_delta_hudi_and_iceberg_tables_are_refused(
    rows: Read, tmp_path: Path, marker: str, kind: str, inside: str
) -> None:
    write(tmp_path / "table" / marker, "{}")
    write(tmp_path / "table" / "data" / "day=1" / "part.csv", "sentence\nA cat.\n")
    with pytest.raises(UserError, match=f"is an? {kind} table.*own reader"):
        rows(tmp_path / "table" / inside)


def test_file_with_several_links_is_read_once(rows: Read, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.csv", "sentence\nA cat.\n")
    write(tmp_path / "elsewhere" / "b.csv", "sentence\nA dog.\n")
    (tmp_path / "in" / "link.csv").symlink_to(tmp_path / "in" / "a.csv")
    (tmp_path / "in" / "hard.csv").hardlink_to(tmp_path / "in" / "a.csv")
    (tmp_path / "in" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    assert texts(rows(tmp_path / "in")) == ["A cat.", "A dog."]
    assert texts(rows(tmp_path / "in" / "link.csv")) == ["A cat."]


def test_pipes_devices_and_dangling_links_are_refused(rows: Read, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "gone.csv").symlink_to(tmp_path / "nothing.csv")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for path, kind in (
            (tmp_path / "in", "is a link to"),
            (tmp_path / "in" / "gone.csv", "is a link to"),
            (tmp_path / "pipe", "is a pipe"),
            (tmp_path / "socket", "is a socket"),
            (Path("/dev/null"), "is a device"),
            (Path("/dev/stdin"), "is a (pipe|device)"),
        ):
            with pytest.raises(UserError, match=kind):
                rows(path)


@pytest.mark.parametrize("address", ["http://127.0.0.1/rows.csv", "C:/rows.csv", "s3a://bucket/rows.csv", "nope://x/y"])
def test_unknown_file_systems_are_named_in_the_error(rows: Read, address: str) -> None:
    with pytest.raises(UserError, match=address.partition(":")[0]) as caught:
        rows(address)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("name", ["rows.txt", "rows.csv", "rows.jsonl", "rows.csv.gz"])
def test_other_encodings_are_refused(rows: Read, tmp_path: Path, encoding: str, name: str) -> None:
    text = '{"sentence": "A cat."}\n' * 3 if "jsonl" in name else "sentence\nA cat.\nA dog.\n"
    content = text.encode(encoding)
    with pytest.raises(UserError, match=r"UTF-(16|32)\w*\b.*UTF-8"):
        rows(write(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content))


@pytest.mark.parametrize("content", [bytes(range(256)) * 20, b"\x89PNG\r\n\x1a\n" + NOISE, b"PK\3\4" + NOISE])
def test_binary_content_is_refused(rows: Read, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match="binary content"):
        rows(write(tmp_path / "rows.txt", content))


def test_utf16_in_the_middle_is_a_bad_row(rows: Read, tmp_path: Path) -> None:
    content = b"A cat.\n" * 900 + "A dog.\n".encode("utf-16-le")
    found = rows(write(tmp_path / "rows.txt", content))
    from distilspark.data.text_rules import text_problem

    assert "UTF-16" in text_problem(found[900]["sentence1"])


def test_json_values_that_are_not_text_are_bad_rows_in_training_and_scoring(
    spark: SparkSession, cola: TaskConfig, rows: Read, tmp_path: Path
) -> None:
    values = ["5", '["a"]', '{"a": 1}', "true", "NaN", '"\\ud800"', "null", '"fine"']
    file = write(tmp_path / "rows.jsonl", "".join(f'{{"sentence": {value}, "label": 1}}\n' for value in values))
    expected = [
        "sentence1 is not text but a number",
        "sentence1 is not text but a list",
        "sentence1 is not text but an object",
        "sentence1 is not text but true or false",
        "sentence1 is not text but a number",
        "sentence1 is not valid UTF-8",
        "sentence1 is missing",
        None,
    ]
    trained = read_rows(spark, cola, str(file), require_label=True).collect()
    assert [row["problem"] for row in trained] == expected
    scored = [row["problem"] for row in rows(file)]
    assert scored == [None if reason and "not text" not in reason else reason for reason in expected]


@pytest.mark.parametrize("name, separator", [("rows.csv", ","), ("rows.tsv", "\t")])
def test_header_with_a_repeated_text_column_is_refused(rows: Read, tmp_path: Path, name: str, separator: str) -> None:
    content = f"id{separator}sentence{separator}sentence\n1{separator}A cat.{separator}A dog.\n"
    with pytest.raises(UserError, match=r"rows\.[ct]sv .*\b2 .*\bsentence\b"):
        rows(write(tmp_path / name, content))


def test_json_values_keep_their_types(rows: Read, tmp_path: Path) -> None:
    lines = [
        {"sentence": "A.", "n": 1, "x": 0.5, "ok": True, "tags": ["a", 1], "mixed": 1, "big": 2**62, "Key": "k"},
        {"sentence": "B.", "n": None, "x": 2, "ok": False, "tags": None, "mixed": "one", "key": "l"},
    ]
    found = rows(write(tmp_path / "rows.jsonl", "".join(json.dumps(line) + "\n" for line in lines)))
    first, second = (row["input"].asDict() for row in found)
    assert (first["n"], first["x"], first["ok"], first["big"]) == (1, 0.5, True, 2**62)
    assert (second["n"], second["x"], second["ok"], second["tags"]) == (None, 2.0, False, None)
    assert (first["tags"].toPython(), first["mixed"].toPython(), second["mixed"].toPython()) == (["a", 1], 1, "one")
    assert (first["Key"], first["key"], second["Key"], second["key"]) == ("k", None, None, "l")


def test_keys_after_a_long_first_line_are_columns(rows: Read, tmp_path: Path) -> None:
    lines = [json.dumps({"sentence": "word " * 40_000}), json.dumps({"sentence": "A cat.", "late": "x"})]
    found = rows(write(tmp_path / "rows.jsonl", "\n".join(lines)))
    assert [row["input"]["late"] for row in found] == [None, "x"]


@pytest.mark.parametrize("content, hint", [('[{"sentence": "a"}]', "jq -c '"), ('{\n "sentence": "a"\n}', "jq -c ")])
def test_json_of_another_shape_gets_a_hint(rows: Read, tmp_path: Path, content: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        rows(write(tmp_path / "rows.jsonl", content))


ODD: dict[str, Any] = {
    "time": pa.array([1, 2], pa.time64("us")),
    "half": pa.array(np.array([1, 2], np.float16)),
    "precise": pa.array([1, 2], pa.decimal256(50, 2)),
    "moments": pa.array([[1], [2]], pa.list_(pa.timestamp("ns"))),
}


@pytest.mark.parametrize("name", ODD)
def test_column_type_unknown_to_spark_is_refused_only_when_columns_are_kept(
    spark: SparkSession, cola: TaskConfig, rows: Read, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"sentence": ["A cat.", "A dog."], "label": [0, 1], name: ODD[name]}), file)
    assert read_rows(spark, cola, str(file), require_label=True).where("problem IS NULL").count() == 2
    with pytest.raises(UserError, match=rf"rows\.parquet.* {name} \("):
        rows(file)


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_timestamps_that_need_nanoseconds_are_bad_rows(rows: Read, tmp_path: Path, zone: str | None) -> None:
    nanos = [1_700_000_000_123_456_000, -1_000, 1]
    table = pa.table({"sentence": list("abc"), "created": pa.array(nanos, pa.timestamp("ns", tz=zone))})
    pq.write_table(table, tmp_path / "rows.parquet")
    found = rows(tmp_path / "rows.parquet")
    assert [pd.Timestamp(row["input"]["created"]).value for row in found] == [*nanos[:2], 0]
    assert [row["problem"] for row in found] == [None, None, "created has nanoseconds, which Spark cannot keep"]


def test_parquet_parts_are_joined_by_name(rows: Read, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"sentence": ["a"], "n": pa.array([1], pa.int32())}), tmp_path / "in" / "a.parquet")
    pq.write_table(pa.table({"n": pa.array([2**40]), "sentence": ["b"]}), tmp_path / "in" / "b.parquet")
    pq.write_table(pa.table({"sentence": ["c"], "m": [0.5]}), tmp_path / "in" / "c.parquet")
    pq.write_table(pa.table({"sentence": ["d"], "n": pa.array([4], pa.int16())}), tmp_path / "in" / "d.parquet")
    found = {row["sentence1"]: (row["input"]["n"], row["input"]["m"]) for row in rows(tmp_path / "in")}
    assert found == {"a": (1, None), "b": (2**40, None), "c": (None, 0.5), "d": (4, None)}
    pq.write_table(pa.table({"sentence": ["e"], "n": ["five"]}), tmp_path / "in" / "e.parquet")
    found = {row["sentence1"]: row["input"]["n"] for row in rows(tmp_path / "in")}
    assert found == {"a": "1", "b": str(2**40), "c": None, "d": "4", "e": "five"}


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet"])
def test_unusual_file_and_folder_names_are_read(rows: Read, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a [b] {1} *50% #é+&%20" / "key=v+w %41"
    folder.mkdir(parents=True)
    frame = pd.DataFrame({"sentence": ["A cat."]})
    content = {"rows.csv": frame.to_csv(index=False), "rows.jsonl": frame.to_json(orient="records", lines=True)}
    frame.to_parquet(folder / name) if name not in content else write(folder / name, content[name])
    for path in (folder.parent, folder.parent.parent):
        (row,) = rows(path)
        assert (row["sentence1"], row["input"]["key"]) == ("A cat.", "v+w A")


@pytest.mark.parametrize("names", [["1", "2", "3", "4", "5"], ["-1", "0", "1"], ["no", "1", "2.0"]])
@pytest.mark.parametrize("written", [str, lambda name: f"{float(name):.1f}", lambda name: f"{float(name):e}"])
def test_label_names_that_are_numbers_are_read_by_value(
    spark: SparkSession, cola: TaskConfig, tmp_path: Path, names: list[str], written: Callable[[str], str]
) -> None:
    task = replace(cola, labels=names)
    labels = [name if name == "no" else written(name) for name in names]
    lines = [f"Text {label}.,{label}" for label in [*labels, "7"]]
    file = write(tmp_path / "rows.csv", "\n".join(["sentence,label", *lines]))
    found = read_rows(spark, task, str(file), require_label=True).collect()
    assert [row["label"] for row in found] == [*map(float, range(len(names))), None]
    assert "label is not" in found[-1]["problem"]


def test_label_names_with_the_same_numeric_value_are_refused(cola: TaskConfig) -> None:
    with pytest.raises(UserError, match=r"names .*same"):
        replace(cola, labels=["1", "1.0"])
