"""Rows for evaluation: dev of a folder, or one file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from distilspark.config import DataConfig, TaskConfig
from distilspark.data.loading import Datasets, LabelledRows, load_labelled
from distilspark.errors import UserError
from helpers.glue_rows import cola_lines, cola_rows, write_cola, write_lines

Configure = Callable[..., DataConfig]
Load = Callable[..., LabelledRows]


@pytest.fixture
def labelled(spark: SparkSession, cola: TaskConfig, data_config: Configure, tmp_path: Path) -> Load:
    """`labelled(path, *overrides)` loads the path as `data=files`."""
    return lambda path, *overrides: load_labelled(
        spark, cola, data_config("data=files", f"data.path='{path}'", *overrides), tmp_path / "bad_rows.csv"
    )


@pytest.mark.slow
def test_evaluation_reads_the_same_dev_as_training(
    labelled: Load, load: Callable[..., Datasets], tmp_path: Path
) -> None:
    folder = write_cola(tmp_path / "cola", cola_rows(30), cola_rows(12, start=100))
    trained = load(folder)
    found = labelled(folder)
    assert (found.digest, found.source, found.file) == (trained.digests["dev"], "files", trained.files["dev"])
    expected = trained.dev.toPandas().sort_values("id").to_dict("records")
    assert found.rows.toPandas().sort_values("id").to_dict("records") == expected
    (folder / "train.tsv").unlink()
    assert labelled(folder).digest == found.digest


def test_path_of_a_single_file_is_read_as_dev(labelled: Load, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "held out.tsv", cola_lines(cola_rows(7)))
    found = labelled(file)
    assert found.file == f"file:{file}" and found.rows.count() == 7
    assert {row["split"] for row in found.rows.collect()} == {"dev"}


def test_sample_corpus_provides_dev(
    spark: SparkSession, cola: TaskConfig, data_config: Configure, cache: Path, tmp_path: Path
) -> None:
    data = data_config("data=sample", "data.sample_rows={train: 60, dev: 20}")
    found = load_labelled(spark, cola, data, tmp_path / "bad_rows.csv")
    assert (found.source, found.rows.count(), found.bad_rows) == ("sample", 20, 0)


@pytest.mark.slow
def test_bad_rows_are_left_out_or_raise_above_the_limit(labelled: Load, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "dev.tsv", [*cola_lines(cola_rows(9)), "s1\t7\t\tA label of no class."])
    assert labelled(file, "data.max_bad_fraction=0.1").bad_rows == 1
    with pytest.raises(UserError, match=r"^1 of 10 .*dev .*data\.max_bad_fraction"):
        labelled(file)
    assert "A label of no class." in (tmp_path / "bad_rows.csv").read_text()
    only = write_lines(tmp_path / "bad.tsv", ["s1\t7\t\tA label of no class."])
    with pytest.raises(UserError, match=r"\b1 in file:.*bad\.tsv"):
        labelled(only, "data.max_bad_fraction=1")


def test_missing_folder_or_dev_file_is_named_in_the_error(labelled: Load, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none .*FileNotFoundException"):
        labelled(tmp_path / "none")
    write_lines(tmp_path / "folder" / "train.tsv", cola_lines(cola_rows(3)))
    with pytest.raises(UserError, match=r"\bdev\b.*train\.tsv"):
        labelled(tmp_path / "folder")
