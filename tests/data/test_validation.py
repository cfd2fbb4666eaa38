"""Bad rows are counted and explained; too many of them fail the run."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from distilspark.config import TaskConfig
from distilspark.data.loading import Datasets
from distilspark.data.read import read_rows
from distilspark.errors import UserError
from helpers.glue_rows import cola_lines, cola_rows, write_cola, write_lines
from helpers.texts import lines_with

Load = Callable[..., Datasets]
BAD_COLA = {
    b"src\t1\t\t": "sentence1 is empty",
    b"src\t1\t\t \xc2\xa0": "sentence1 is empty",
    b"src\t\t\tNo label.": "label is empty",
    b"src\t2\t\tLabel two.": "label is not 0 (unacceptable) or 1 (acceptable)",
    b"src\t0.5\t\tLabel half.": "label is not 0 (unacceptable) or 1 (acceptable)",
    b"src\tgood\t\tLabel good.": "label is not 0 (unacceptable) or 1 (acceptable)",
    b"src\t1\tToo short.": "3 columns instead of 4",
    b"src\t1\t\tToo\tlong.": "5 columns instead of 4",
    b"src\t1\t\tBroken \xff\xfe bytes.": "sentence1 is not valid UTF-8",
}
BAD_STSB = {
    b'"Text.","Text.",7.5': "label is not from 0.0 to 5.0",
    b'"Text.","Text.",-0.1': "label is not from 0.0 to 5.0",
    b'"Text.","Text.",nan': "label is not from 0.0 to 5.0",
    b'"Text.","Text.",many': "label is not from 0.0 to 5.0",
    b'"Text.","Text.",': "label is empty",
    b'"Text.",,2.0': "sentence2 is missing",
    b'"Text.","",2.0': "sentence2 is empty",
    b'"Text."': "1 columns instead of 3",
    b'"Text.","Text.",2.0,3.0': "4 columns instead of 3",
    b'"Text.","Br\xffken.",2.0': "sentence2 is not valid UTF-8",
}
BAD_JSON = {
    b'{"sentence": "Cut off", "lab': "not a JSON object",
    b'{"sentence": null, "label": 1}': "sentence1 is missing",
    b'{"sentence": "No label."}': "label is empty",
    b'{"sentence": "Br\xffken.", "label": 1}': "sentence1 is not valid UTF-8",
}


def _problems(spark: SparkSession, task: TaskConfig, file: Path, good: bytes, bad: dict[bytes, str]) -> list[str]:
    file.write_bytes(b"\n".join([good] * 20 + list(bad)))
    rows = read_rows(spark, task, str(file), require_label=True).toPandas()
    assert len(rows) == 20 + len(bad)
    assert rows["row"].str.len().min() > 0
    return sorted(rows["problem"].dropna())


def test_bad_rows_of_tsv_get_their_reasons(spark: SparkSession, cola: TaskConfig, tmp_path: Path) -> None:
    good = b'src\t1\t\tA "fine sentence.'
    assert _problems(spark, cola, tmp_path / "rows.tsv", good, BAD_COLA) == sorted(BAD_COLA.values())


def test_bad_rows_of_csv_get_their_reasons(spark: SparkSession, stsb: TaskConfig, tmp_path: Path) -> None:
    good = b'"A ""fine"", text.",Another.,3.2'
    assert _problems(spark, stsb, tmp_path / "rows.csv", good, BAD_STSB) == sorted(BAD_STSB.values())


def test_bad_rows_of_json_get_their_reasons(spark: SparkSession, cola: TaskConfig, tmp_path: Path) -> None:
    good = b'{"sentence": "Fine.", "label": 1}'
    assert _problems(spark, cola, tmp_path / "rows.jsonl", good, BAD_JSON) == sorted(BAD_JSON.values())


def test_bad_rows_of_parquet_get_their_reasons(spark: SparkSession, cola: TaskConfig, tmp_path: Path) -> None:
    frame = pd.DataFrame({"sentence": ["Fine.", None, "", "Hidden."], "label": [1, 1, 0, -1]})
    frame.to_parquet(tmp_path / "rows.parquet")
    rows = read_rows(spark, cola, str(tmp_path / "rows.parquet"), require_label=True).toPandas()
    assert sorted(rows["problem"].dropna()) == ["label is hidden (-1)", "sentence1 is empty", "sentence1 is missing"]
    assert '{"sentence":"Hidden.","label":-1}' in set(rows["row"])


def test_few_bad_rows_are_dropped_printed_and_written_to_a_file(
    load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_cola(tmp_path / "cola", cola_rows(199), cola_rows(50, start=1000))
    with (folder / "train.tsv").open("a") as file:
        file.write("\nsrc\t7\t\tSeven.")
    datasets = load(folder)
    assert datasets.counts["data/rows_read"] == 250
    assert datasets.counts["data/rows_bad"] == 1
    assert datasets.counts["data/train"] + datasets.counts["data/validation"] == 199
    reason = "label is not 0 (unacceptable) or 1 (acceptable)"
    expected = [("train", f"file:{folder}/train.tsv", "src\t7\t\tSeven.", reason)]
    assert list(datasets.bad_rows.itertuples(index=False, name=None)) == expected
    assert len(lines_with(capsys.readouterr().out, 1, reason, str(tmp_path / "bad_rows.csv"))) == 1
    written = pd.read_csv(tmp_path / "bad_rows.csv")
    pd.testing.assert_frame_equal(written, datasets.bad_rows, check_dtype=False)


def test_too_many_bad_rows_fail(load: Load, tmp_path: Path) -> None:
    folder = write_cola(tmp_path / "cola", cola_rows(196), cola_rows(50, start=1000))
    bad = ["src\t7\t\tSeven.", "src\t8\t\tEight.", "short", "src\t7\t\tSeven again."]
    write_lines(folder / "train.tsv", [*cola_lines(cola_rows(196)), *bad])
    with pytest.raises(UserError) as caught:
        load(folder)
    for part in (
        "4 of 200 rows of train",
        "data.max_bad_fraction=0.01",
        "3 rows: label ",
        "1 row: 1 columns instead of 4",
        r"For example 'src\t",
        str(tmp_path / "bad_rows.csv"),
        f"{folder}/train.tsv",
    ):
        assert part in str(caught.value)
    assert len(pd.read_csv(tmp_path / "bad_rows.csv")) == 4
    assert load(folder, "data.max_bad_fraction=0.02").counts["data/rows_bad"] == 4


def test_labels_out_of_range_fail_even_in_a_small_dev(load: Load, tmp_path: Path) -> None:
    dev = [(source, "9", text) for source, _, text in cola_rows(3, start=1000)]
    with pytest.raises(UserError, match=r"^3 of 3 .*dev"):
        load(write_cola(tmp_path / "cola", cola_rows(900), dev))


def test_data_of_another_task_fails(load: Load, tmp_path: Path) -> None:
    """RTE's files have MNLI's columns; their labels are different."""
    for split in ("train", "dev"):
        write_lines(
            tmp_path / "rte" / f"{split}.tsv",
            ["index\tsentence1\tsentence2\tlabel", *(f"{n}\tA\tB\tnot_entailment" for n in range(9))],
        )
    with pytest.raises(UserError, match=r"9 rows: label .*0 \(entailment\).* 1 \(neutral\).* 2"):
        load(tmp_path / "rte", task="mnli")


def test_file_with_only_a_header_is_refused(load: Load, tmp_path: Path) -> None:
    write_lines(tmp_path / "cola" / "train.tsv", ["sentence\tlabel", "A dog barks.\t1"])
    write_lines(tmp_path / "cola" / "dev.tsv", ["sentence\tlabel"])
    with pytest.raises(UserError, match=r"dev\.tsv .*rows"):
        load(tmp_path / "cola")


def test_truncated_gzip_file_is_named_in_the_error(load: Load, tmp_path: Path) -> None:
    folder = write_cola(tmp_path / "cola", cola_rows(3000), cola_rows(9))
    whole = gzip.compress((folder / "train.tsv").read_bytes())
    (folder / "train.tsv.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "train.tsv").unlink()
    with pytest.raises(UserError, match=r"train\.tsv\.gz .*EOFError"):
        load(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_without_read_permission_is_refused(load: Load, tmp_path: Path) -> None:
    folder = write_cola(tmp_path / "cola", cola_rows(9), cola_rows(9))
    folder.chmod(0)
    try:
        with pytest.raises(UserError, match=r"cola .*Permission denied"):
            load(folder)
    finally:
        folder.chmod(0o755)


def test_duplicates_are_counted(load: Load, tmp_path: Path) -> None:
    train = [*cola_rows(40), ("s", "1", "Twice."), ("s", "1", "Twice."), ("s", "1", "Both."), ("s", "0", "Both.")]
    dev = [
        *cola_rows(10, start=1000),
        ("s", "1", "Twice."),
        ("t", "0", "Twice."),
        ("s", "1", "New."),
        ("s", "1", "New."),
    ]
    counts = load(write_cola(tmp_path / "cola", train, dev)).counts
    assert counts["data/duplicates_train_dev"] == 2
    assert counts["data/duplicates_train"] == 2
    assert counts["data/contradictions_train"] == 1
