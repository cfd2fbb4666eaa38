"""Every file format of the same rows is read as the same canonical rows."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from distilspark.config import TaskConfig
from distilspark.data.read import find_inputs, read_inputs, read_rows
from distilspark.errors import UserError
from helpers.glue_rows import write_json_lines, write_lines

SENTENCES = ['Say "no", twice.', 'A lone " quote, and a comma', "'Tis naïve — 東京", "plain"]
LABELS = [1, 0, 1, 0]
PAIRS = [('A "red" bike, parked.', "A bike", 3.8), ('lone " quote', "ünïcode", 0.0), ("x", "y, z", 5.0)]
Write = Callable[[Path], Path]


def _cola(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"sentence": SENTENCES, "label": LABELS, **columns})


def _pairs(**columns: object) -> pd.DataFrame:
    return pd.DataFrame(PAIRS, columns=["sentence1", "sentence2", "label"]).assign(**columns)


def _gzip(write: Write) -> Write:
    def write_(folder: Path) -> Path:
        plain = write(folder)
        packed = plain.with_name(f"{plain.name}.gz")
        packed.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
        return packed

    return write_


def _parquet(frame: pd.DataFrame) -> Write:
    def write(folder: Path) -> Path:
        frame.to_parquet(folder / "rows.parquet", index=False)
        return folder / "rows.parquet"

    return write


def _csv(frame: pd.DataFrame, header: bool, end: str = "\n", mark: str = "") -> Write:
    def write(folder: Path) -> Path:
        text = frame.to_csv(index=False, header=header, lineterminator=end)
        return write_lines(folder / "rows.csv", [f"{mark}{text}"])

    return write


def _lines(name: str, lines: list[str]) -> Write:
    return lambda folder: write_lines(folder / name, lines)


OWN = [f"src\t{label}\t{'' if label else '*'}\t{text}" for text, label in zip(SENTENCES, LABELS, strict=True)]
HEADED = ["sentence\tlabel", *(f"{text}\t{label}" for text, label in zip(SENTENCES, LABELS, strict=True))]
GENRE = "index genre filename year old_index source1 source2 sentence1 sentence2 score".replace(" ", "\t")
STSB = [GENRE, *(f"{n}\tnews\tf\t2012\t{n}\tnone\tnone\t{a}\t{b}\t{c:.3f}" for n, (a, b, c) in enumerate(PAIRS))]
COLA_FORMATS: dict[str, Write] = {
    "own": _lines("rows.tsv", OWN),
    "own, Windows": _lines("rows.tsv", [f"{line}\r" for line in OWN]),
    "own with byte order mark": _lines("rows.tsv", [f"\ufeff{OWN[0]}", *OWN[1:]]),
    "own, any ending": _lines("rows.txt", OWN),
    "own, blank line at the end": _lines("rows.tsv", [*OWN, "", ""]),
    "TSV with header": _lines("rows.tsv", HEADED),
    "TSV with byte order mark": _lines("rows.tsv", [f"\ufeff{HEADED[0]}", *HEADED[1:]]),
    "CSV with header": _csv(_cola(), header=True),
    "CSV, Windows": _csv(_cola(), header=True, end="\r\n"),
    "JSON Lines": lambda folder: write_json_lines(folder / "rows.jsonl", _cola()),
    "parquet": _parquet(_cola(idx=range(4))),
    "label names": _parquet(_cola(label=["unacceptable" if label == 0 else "acceptable" for label in LABELS])),
}
STSB_FORMATS: dict[str, Write] = {
    "own": _csv(_pairs(), header=False),
    "GLUE's TSV": _lines("rows.tsv", STSB),
    "own with byte order mark": _csv(_pairs()[::-1], header=False, mark="\ufeff"),
    "CSV with header": _csv(_pairs(), header=True),
    "CSV with byte order mark": _csv(_pairs(), header=True, mark="\ufeff"),
    "JSON Lines": lambda folder: write_json_lines(folder / "rows.jsonl", _pairs()),
    "parquet": _parquet(_pairs(idx=range(3)).astype({"label": "float32"})),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", COLA_FORMATS)
def test_every_format_of_single_sentences_gives_the_same_rows(
    spark: SparkSession, cola: TaskConfig, tmp_path: Path, name: str, packed: bool
) -> None:
    write = _gzip(COLA_FORMATS[name]) if packed else COLA_FORMATS[name]
    rows = read_rows(spark, cola, str(write(tmp_path)), require_label=True).toPandas()
    assert rows["problem"].isna().all()
    assert dict(zip(rows["sentence1"], rows["label"], strict=True)) == dict(zip(SENTENCES, LABELS, strict=True))
    assert set(rows["source"].dropna()) <= {"src"}
    assert rows["sentence2"].isna().all()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", STSB_FORMATS)
def test_every_format_of_sentence_pairs_gives_the_same_rows(
    spark: SparkSession, stsb: TaskConfig, tmp_path: Path, name: str, packed: bool
) -> None:
    write = _gzip(STSB_FORMATS[name]) if packed else STSB_FORMATS[name]
    rows = read_rows(spark, stsb, str(write(tmp_path)), require_label=True).toPandas()
    assert rows["problem"].isna().all()
    assert sorted(rows[["sentence1", "sentence2", "label"]].itertuples(index=False, name=None)) == sorted(PAIRS)


def test_quoted_line_breaks_stay_in_their_row(spark: SparkSession, stsb: TaskConfig, tmp_path: Path) -> None:
    pairs = pd.DataFrame([("two\nlines", "one", 1.0), ("a", "b", 2.0)])
    rows = read_rows(spark, stsb, str(_csv(pairs, header=False)(tmp_path)), require_label=True).toPandas()
    assert sorted(rows["sentence1"]) == ["a", "two\nlines"]


def test_index_and_genre_are_read_as_id_and_source(spark: SparkSession, stsb: TaskConfig, tmp_path: Path) -> None:
    rows = read_rows(spark, stsb, str(STSB_FORMATS["GLUE's TSV"](tmp_path)), require_label=True).toPandas()
    assert sorted(rows["id"]) == ["0", "1", "2"]
    assert set(rows["source"]) == {"news"}


def test_unlabelled_files_are_read_unless_a_label_is_required(
    spark: SparkSession, cola: TaskConfig, stsb: TaskConfig, tmp_path: Path
) -> None:
    """GLUE's test files have no label, the hub's have -1; either is a problem only if a label is required."""
    file = str(write_lines(tmp_path / "test.tsv", ["index\tsentence", *(f"{n}\t{s}" for n, s in enumerate(SENTENCES))]))
    rows = read_rows(spark, cola, file, require_label=False).toPandas()
    assert dict(zip(rows["id"], rows["sentence1"], strict=True)) == {str(n): s for n, s in enumerate(SENTENCES)}
    assert rows["label"].isna().all() and rows["problem"].isna().all()
    with pytest.raises(UserError, match=r"test.tsv .*task=cola\b.* 2 tab-.*'index\\tsentence'"):
        read_rows(spark, cola, file, require_label=True)
    hidden = str(_parquet(_cola(label=[-1] * 4))(tmp_path))
    rows = read_rows(spark, cola, hidden, require_label=False).toPandas()
    assert rows["label"].isna().all() and rows["problem"].isna().all()
    assert set(read_rows(spark, cola, hidden, require_label=True).toPandas()["problem"]) == {"label is hidden (-1)"}
    index = GENRE.removesuffix("\tscore")
    pairs = write_lines(tmp_path / "pairs.tsv", [index, *(line.rpartition("\t")[0] for line in STSB[1:])])
    rows = read_rows(spark, stsb, str(pairs), require_label=False).toPandas()
    assert sorted(rows["sentence1"]) == sorted(pair[0] for pair in PAIRS)


def test_folder_with_parts_written_by_spark_is_read(spark: SparkSession, cola: TaskConfig, tmp_path: Path) -> None:
    """Every part has its own header; `_SUCCESS` is ignored."""
    write_lines(tmp_path / "_SUCCESS", [""])
    for part in range(2):
        write_lines(tmp_path / f"part-0000{part}.csv", ["sentence,label", f"Part {part} sings.,1"])
    rows = read_rows(spark, cola, str(tmp_path), require_label=True).toPandas()
    assert sorted(rows["sentence1"]) == ["Part 0 sings.", "Part 1 sings."]


def test_relative_paths_and_unusual_names_are_read(
    spark: SparkSession, cola: TaskConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my [data] {1} *50% #é"
    folder.mkdir()
    write_lines(folder / "train.tsv", OWN)
    monkeypatch.chdir(folder)
    for path in ("train.tsv", str(folder / "train.tsv"), f"file:{folder}/train.tsv", f"file://{folder}/train.tsv"):
        assert read_rows(spark, cola, path, require_label=True).count() == 4


def test_input_keeps_all_columns_and_names_empty_or_repeated_ones_by_position(
    spark: SparkSession, cola: TaskConfig, tmp_path: Path
) -> None:
    file = write_lines(tmp_path / "rows.tsv", ["sentence\t\tnote\tnote", "A cat sleeps.\t1\t2\t3"])
    rows = read_inputs(spark, cola, find_inputs(spark, cola, str(file)))
    assert rows.select("input.*").columns == ["sentence", "column_2", "note", "column_4"]
    assert rows.first()["input"]["column_4"] == "3"


@pytest.mark.parametrize(
    "name, content, seen",
    [
        ("empty.tsv", b"", "is empty"),
        ("blank.tsv", b"\n \n", "is empty"),
        ("garbage.tsv", bytes(range(256)) * 9, r"binary .*\b00 01"),
        ("utf16.tsv", "src\t1\t\tHello.".encode("utf-16"), r"UTF-16\b.*UTF-8.*iconv"),
        ("image.parquet", b"\x89PNG\r\n\x1a\n\0\0", "binary"),
        ("broken.parquet", b"PAR1" * 9, "broken.parquet "),
        ("text.tsv.gz", b"src\t1\t\tHello.", r"\bno gzip\b"),
        ("packed.tsv", gzip.compress(b"src\t1\t\tHello.", mtime=0), r"\bis gzip\b"),
        ("damaged.tsv.gz", b"\x1f\x8bnot gzip", "binary"),
        (
            "prose.txt",
            b"Call me Ishmael.\nSome years ago",
            "1 comma-.*'Call me",
        ),
        ("stsb.csv", b"One text.,Another text.,3.0", "3 comma-.*'One text.,Another"),
        ("array.json", b'[{"sentence": "a", "label": 1}]', r"JSON array.*jq -c '\.\[\]'"),
        ("keys.jsonl", b'{"text": "a", "label": 1}', r"sentence, label; .*\b4 columns"),
    ],
)
def test_unrecognised_file_raises_with_what_was_seen(
    spark: SparkSession, cola: TaskConfig, tmp_path: Path, name: str, content: bytes, seen: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=seen) as caught:
        read_rows(spark, cola, str(tmp_path / name), require_label=True)
    assert str(tmp_path / name) in str(caught.value)


def test_parquet_with_other_columns_or_types_is_refused(spark: SparkSession, cola: TaskConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"parquet .*\ba, b\b"):
        read_rows(spark, cola, str(_parquet(pd.DataFrame({"a": [1], "b": [2]}))(tmp_path)), require_label=True)
    with pytest.raises(UserError, match=r"parquet .*sentence .*int64"):
        read_rows(spark, cola, str(_parquet(_cola(sentence=range(4)))(tmp_path)), require_label=True)


def test_missing_file_unknown_scheme_and_empty_folder_are_refused(
    spark: SparkSession, cola: TaskConfig, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"none\.tsv "):
        read_rows(spark, cola, str(tmp_path / "none.tsv"), require_label=True)
    with pytest.raises(UserError, match=r"nowhere://bucket/train.tsv .*FileSystem"):
        read_rows(spark, cola, "nowhere://bucket/train.tsv", require_label=True)
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    with pytest.raises(UserError, match=f"{tmp_path} .*no data files"):
        read_rows(spark, cola, str(tmp_path), require_label=True)
