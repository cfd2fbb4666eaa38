"""Splits depend only on the rows and the seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from distilspark.config import TaskConfig
from distilspark.data.loading import Datasets
from distilspark.data.splits import digests_and_counts, split_train, with_ids
from distilspark.errors import UserError
from helpers.glue_rows import cola_rows, write_cola, write_lines

Load = Callable[..., Datasets]
SCHEMA = "id string, sentence1 string, sentence2 string, label double, source string, split string"


def _train(spark: SparkSession, rows: list[tuple[str, float]]) -> DataFrame:
    return spark.createDataFrame([(None, text, None, label, None, "train") for text, label in rows], SCHEMA)


def _texts(frame: DataFrame, split: str) -> list[str]:
    pandas = frame.toPandas()
    return sorted(pandas.loc[pandas["split"] == split, "sentence1"])


def _numbered(count: int, labels: int = 2) -> list[tuple[str, float]]:
    return [(f"Sentence {n}", float(n % labels)) for n in range(count)]


@pytest.mark.parametrize("fraction, sample", [(0.2, 1.0), (0.2, 0.2), (0.37, 0.5)])
def test_splits_keep_the_label_shares_within_one_row(
    spark: SparkSession, cola: TaskConfig, fraction: float, sample: float
) -> None:
    rows = [(f"Sentence {n}", float(n % 10 < 7)) for n in range(503)]
    split = split_train(_train(spark, rows), cola, fraction, sample, seed=1).toPandas()
    sizes = split.groupby(["split", "label"]).size()
    for label, total in pd.Series([label for _, label in rows]).value_counts().items():
        assert abs(sizes["validation", label] - total * fraction * sample) <= 1
        assert abs(sizes["train", label] - total * (1 - fraction) * sample) <= 1


def test_regression_labels_are_stratified_by_bins(spark: SparkSession, stsb: TaskConfig) -> None:
    rows = [(f"Sentence {n}", n % 51 / 10) for n in range(510)]
    split = split_train(_train(spark, rows), stsb, 0.2, 1.0, seed=1).toPandas()
    bins = (split["label"] * 2).astype(int).clip(upper=9)
    shares = (split["split"] == "validation").groupby(bins).agg(["sum", "size"])
    assert len(shares) == 10
    assert ((shares["sum"] - 0.2 * shares["size"]).abs() <= 1).all()


def test_splits_do_not_depend_on_row_order_or_partitions(spark: SparkSession, cola: TaskConfig) -> None:
    rows = [*_numbered(300), *_numbered(40), ("Both", 0.0), ("Both", 1.0)]
    shuffled = random.Random(3).sample(rows, len(rows))
    frames = [
        with_ids(split_train(frame, cola, 0.2, 0.5, seed=7)).toPandas().sort_values("id").reset_index(drop=True)
        for frame in (_train(spark, rows), _train(spark, shuffled).repartition(7))
    ]
    pd.testing.assert_frame_equal(*frames)
    assert frames[0]["id"].is_unique


def test_another_seed_gives_another_split(spark: SparkSession, cola: TaskConfig) -> None:
    train = _train(spark, _numbered(300))
    first, second = (_texts(split_train(train, cola, 0.2, 1.0, seed), "validation") for seed in (1, 2))
    assert len(first) == len(second) == 60
    assert len(set(first) & set(second)) < 30


def test_equal_texts_are_in_the_same_split(spark: SparkSession, cola: TaskConfig) -> None:
    rows = [(f"Sentence {n % 60}", float(n % 2)) for n in range(300)] + [(f" Sentence {n} ", 1.0) for n in range(60)]
    split = split_train(_train(spark, rows), cola, 0.2, 1.0, seed=1)
    train, validation = ({text.strip() for text in _texts(split, side)} for side in ("train", "validation"))
    assert len(train) + len(validation) == 60
    assert not train & validation


def test_smaller_sample_is_a_subset_of_a_larger_one(spark: SparkSession, cola: TaskConfig) -> None:
    train = _train(spark, _numbered(300))
    small, large = (split_train(train, cola, 0.2, sample, seed=1) for sample in (0.2, 0.6))
    for side in ("train", "validation"):
        assert set(_texts(small, side)) < set(_texts(large, side))


def test_ids_are_the_index_or_a_content_hash_and_unique(spark: SparkSession) -> None:
    rows = [("7", "a", 1.0), ("7", "b", 0.0), (None, "a", 1.0), (None, "a", 0.0), (None, "a", 1.0), (None, "ab", 1.0)]
    frame = spark.createDataFrame([(name, text, None, label, None, "dev") for name, text, label in rows], SCHEMA)
    ids = sorted(with_ids(frame).toPandas()["id"], key=len)
    assert ids[:2] == ["7", "7-1"]
    contents = Counter(name.partition("-")[0] for name in ids[2:])
    assert sorted(contents.values()) == [1, 3]
    repeated = max(contents, key=contents.__getitem__)
    assert len(repeated) == 16
    assert {repeated, f"{repeated}-1", f"{repeated}-2"} < set(ids)


def test_digest_depends_on_texts_labels_and_repetitions_but_not_on_order(spark: SparkSession) -> None:
    def digest(rows: list[tuple[str, float]]) -> str:
        return digests_and_counts(_train(spark, rows))["train"][0]

    rows = _numbered(20)
    assert digest(rows) == digest(rows[::-1])
    assert len(digest(rows)) == 36
    others = [digest(changed) for changed in (rows[1:], [*rows, rows[0]], [("Sentence 0", 1.0), *rows[1:]])]
    assert len({digest(rows), *others}) == 4


@pytest.mark.slow
def test_formats_give_the_same_splits(load: Load, tmp_path: Path) -> None:
    """TSV, shuffled TSV, and the hub's parquet, which has other ids."""
    train, dev = cola_rows(150), cola_rows(30, start=1000)
    write_cola(tmp_path / "tsv", train, dev)
    write_cola(tmp_path / "shuffled", random.Random(1).sample(train, 150), dev[::-1])
    (tmp_path / "parquet").mkdir()
    for name, rows in (("train", train), ("validation", dev)):
        frame = pd.DataFrame({"sentence": [row[2] for row in rows], "label": [int(row[1]) for row in rows]})
        frame.assign(idx=range(len(rows))).to_parquet(tmp_path / "parquet" / f"{name}-00000-of-00001.parquet")
    loaded = [load(tmp_path / name, "data.sample_fraction=0.5") for name in ("tsv", "shuffled", "parquet")]
    assert loaded[0].digests == loaded[1].digests == loaded[2].digests
    for split in ("train", "validation", "dev"):
        texts = [_texts(datasets.splits[split], split) for datasets in loaded]
        assert texts[0] == texts[1] == texts[2]
    assert loaded[0].counts["data/dev"] == 30
    assert sorted(loaded[2].dev.toPandas()["id"], key=int) == [str(n) for n in range(30)]


def test_an_empty_split_is_refused(load: Load, tmp_path: Path) -> None:
    write_lines(tmp_path / "cola" / "train.tsv", ["s\t1\t\tOne."])
    write_lines(tmp_path / "cola" / "dev.tsv", ["s\t1\t\tTwo."])
    with pytest.raises(UserError, match=r"validation .*\b2\b.*data\.sample_f"):
        load(tmp_path / "cola")
