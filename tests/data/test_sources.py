"""Data from the hub, files and the sample corpus, and the choice of `auto`, against a fake hub on 127.0.0.1."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from distilspark.config import DataConfig, TaskConfig
from distilspark.data.loading import load_datasets
from distilspark.data.sources import find_splits, locate
from distilspark.errors import UserError
from helpers.fake_hub import serve_hub, silent_hub
from helpers.glue_rows import cola_rows, write_cola, write_lines
from helpers.texts import lines_with

Configure = Callable[..., DataConfig]
SAMPLE = "data.sample_rows={train: 60, dev: 20}"


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty caches for each test, and the network allowed."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("DISTILSPARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub with CoLA; yields the folder that it serves."""
    folder = tmp_path / "hub" / "datasets" / "nyu-mll" / "glue" / "cola"
    folder.mkdir(parents=True)
    for name, rows in (("train", cola_rows(50)), ("validation", cola_rows(10, start=1000))):
        frame = pd.DataFrame({"sentence": [row[2] for row in rows], "label": [int(row[1]) for row in rows]})
        frame.assign(idx=range(len(rows))).to_parquet(folder / f"{name}-00000-of-00001.parquet")
    with serve_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield folder


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub that never answers."""
    with silent_hub() as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield url


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["hub", "auto"])
def test_hub_data_is_read_and_cached(
    spark: SparkSession,
    cola: TaskConfig,
    data_config: Configure,
    served: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    choice: str,
) -> None:
    data = data_config(f"data={choice}")
    datasets = load_datasets(spark, cola, data, tmp_path / "bad_rows.csv")
    assert datasets.source == "hub"
    assert [datasets.counts[f"data/{split}"] for split in ("train", "validation", "dev")] == [40, 10, 10]
    assert datasets.files["train"].endswith(f"{data.revision}/cola/train-00000-of-00001.parquet")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert locate(spark, cola, data).files == datasets.files


@pytest.mark.slow
def test_auto_uses_the_sample_corpus_when_the_hub_does_not_answer(
    spark: SparkSession, cola: TaskConfig, data_config: Configure, silent: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        start = time.monotonic()
        located = locate(spark, cola, data_config("data=auto", SAMPLE))
        spent = time.monotonic() - start
    assert located.source == "sample"
    assert set(located.files) == {"train", "dev"}
    assert f"sample corpus: {silent} does not answer" in caplog.text
    assert spent < 8  # at most five seconds for the hub, and the time to generate the corpus


def test_auto_uses_the_sample_corpus_when_the_hub_lacks_a_file(
    spark: SparkSession, cola: TaskConfig, data_config: Configure, served: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (served / "validation-00000-of-00001.parquet").unlink()
    assert locate(spark, cola, data_config("data=auto", SAMPLE)).source == "sample"
    assert lines_with(
        caplog.text, "data=auto", "sample", "data=hub", "nyu-mll/glue/cola/validation-00000-of-00001.parquet"
    )


@pytest.mark.slow
def test_explicit_hub_raises_instead_of_falling_back(
    spark: SparkSession, cola: TaskConfig, data_config: Configure, silent: str
) -> None:
    with pytest.raises(UserError, match=f"data=hub: .*{silent} .*data=files .*data=sample"):
        locate(spark, cola, data_config("data=hub"))


def test_sample_corpus_is_loaded_without_bad_rows(
    spark: SparkSession, cola: TaskConfig, data_config: Configure, tmp_path: Path
) -> None:
    datasets = load_datasets(spark, cola, data_config("data=sample", SAMPLE), tmp_path / "bad_rows.csv")
    assert datasets.source == "sample"
    assert datasets.counts["data/rows_read"] == 80
    assert datasets.bad_rows.empty


@pytest.mark.parametrize(
    "names",
    [
        ("train.tsv", "dev.tsv"),
        ("train.csv.gz", "validation.jsonl"),
        ("train-00000-of-00001.parquet", "validation-00000-of-00001.parquet"),
        ("train", "dev"),
    ],
)
def test_splits_are_found_by_name(
    spark: SparkSession, cola: TaskConfig, tmp_path: Path, names: tuple[str, str]
) -> None:
    for name in (*names, "test.tsv", "train.tsv.bak", "dev_notes.tsv", "README.md"):
        write_lines(tmp_path / name, ["x"])
    assert find_splits(spark, cola, str(tmp_path)) == {
        split: f"file:{tmp_path / name}" for split, name in zip(("train", "dev"), names, strict=True)
    }


def test_dev_is_preferred_over_validation(spark: SparkSession, cola: TaskConfig, tmp_path: Path) -> None:
    for name in ("train.tsv", "validation_matched.tsv", "dev.tsv"):
        write_lines(tmp_path / name, ["x"])
    assert find_splits(spark, cola, str(tmp_path))["dev"].endswith("/dev.tsv")


def test_missing_or_ambiguous_splits_are_named_in_the_error(
    spark: SparkSession, cola: TaskConfig, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"none .*FileNotFoundException"):
        find_splits(spark, cola, str(tmp_path / "none"))
    write_lines(tmp_path / "train.tsv", ["x"])
    with pytest.raises(UserError, match=r"\bdev\b.*: train\.tsv\b.*\bdev or validation"):
        find_splits(spark, cola, str(tmp_path))
    with pytest.raises(UserError, match=r"data\.path=.*train\.tsv .*folder"):
        find_splits(spark, cola, str(tmp_path / "train.tsv"))
    write_lines(tmp_path / "train.csv", ["x"])
    with pytest.raises(UserError, match=r"train\.csv, train\.tsv: "):
        find_splits(spark, cola, str(tmp_path))


def test_files_need_a_path(data_config: Configure) -> None:
    with pytest.raises(UserError, match=r"data\.path "):
        data_config("data=files")


def test_paths_are_relative_to_the_current_folder(
    spark: SparkSession, cola: TaskConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cola(tmp_path / "glue" / "CoLA", cola_rows(3), cola_rows(3))
    monkeypatch.chdir(tmp_path / "glue")
    for path in ("CoLA", "./CoLA/", "../glue/CoLA", f"file://{tmp_path}/glue/CoLA"):
        assert find_splits(spark, cola, path)["dev"].endswith(f"{tmp_path}/glue/CoLA/dev.tsv")
