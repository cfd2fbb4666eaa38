"""Load the rows that a config describes: checked, split, in canonical columns."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from distilspark.config import DataConfig, TaskConfig
from distilspark.corpus.sample import pretraining_rows
from distilspark.data.filesystem import reading
from distilspark.data.read import read_rows
from distilspark.data.sources import Located, locate
from distilspark.data.splits import SEPARATOR, digests_and_counts, joined, split_train, with_ids
from distilspark.data.validation import check_bad_rows, count_duplicates
from distilspark.errors import UserError

logger = logging.getLogger(__name__)
UNLABELLED = "unlabelled"  # the split of rows without labels
CANONICAL = ["id", "sentence1", "sentence2", "label", "source", "split"]


@dataclass(frozen=True)
class Datasets:
    """A task's rows, ready to train on.

    The DataFrames have the columns `id`, `sentence1`, `sentence2` (null for single sentences), `label` (double),
    `source` (null where unknown) and `split`, and are cached.
    """

    train: DataFrame
    validation: DataFrame
    dev: DataFrame
    bad_rows: pd.DataFrame  # split, file, row (its text, shortened), reason
    counts: dict[str, int]  # data/rows_read, data/rows_bad, data/train, data/duplicates_train_dev, …
    source: str  # hub | files | sample
    files: dict[str, str]  # train, dev -> the URI that was read
    digests: dict[str, str]  # split -> 36 hex digits over its texts and labels, whatever their order

    @property
    def splits(self) -> dict[str, DataFrame]:
        """The DataFrames by the names of their splits."""
        return {"train": self.train, "validation": self.validation, "dev": self.dev}

    @property
    def sizes(self) -> dict[str, int]:
        """The number of rows in each split."""
        return {name: self.counts[f"data/{name}"] for name in self.splits}


@dataclass(frozen=True)
class LabelledRows:
    """A task's rows to evaluate on: the dev split, or a file."""

    rows: DataFrame  # with the columns of `Datasets`
    bad_rows: int
    source: str
    file: str
    digest: str  # equals that of dev in `Datasets` if the rows are the same


def load_datasets(spark: SparkSession, task: TaskConfig, data: DataConfig, bad_rows_file: Path) -> Datasets:
    """Locate, read, check, sample and split a task's data.

    Raises:
        UserError: the data cannot be fetched, read or recognised, too many rows are bad (`bad_rows_file` has them), or
            a split is empty.

    """
    located = locate(spark, task, data)
    read = _read(spark, task, located, data.max_characters)
    bad, rows_read = _bad_rows(read, located)
    check_bad_rows(bad, rows_read, data.max_bad_fraction, bad_rows_file)
    good = with_ids(read.where("problem IS NULL").drop("row", "problem"))
    duplicates = count_duplicates(good, ["sentence1", "sentence2"])
    rows = _split(good, task, data).persist()
    summaries = digests_and_counts(rows)
    read.unpersist()
    counts = {
        "data/rows_read": sum(rows_read.values()),
        "data/rows_bad": len(bad),
        **{f"data/{split}": count for split, (_, count) in summaries.items()},
        **duplicates,
    }
    _report(located, counts)
    _check_filled(counts, located)
    splits = {split: rows.where(F.col("split") == split) for split in ("train", "validation", "dev")}
    digests = {split: digest for split, (digest, _) in summaries.items()}
    return Datasets(**splits, bad_rows=bad, counts=counts, source=located.source, files=located.files, digests=digests)


def load_labelled(spark: SparkSession, task: TaskConfig, data: DataConfig, bad_rows_file: Path) -> LabelledRows:
    """Locate, read and check a task's dev split; `data.path` may also be a single file.

    Raises:
        UserError: as `load_datasets`.

    """
    located = locate(spark, task, data, ("dev",))
    read = _read(spark, task, located, data.max_characters)
    bad, rows_read = _bad_rows(read, located)
    check_bad_rows(bad, rows_read, data.max_bad_fraction, bad_rows_file)
    rows = with_ids(read.where("problem IS NULL").drop("row", "problem")).select(*CANONICAL).persist()
    if not (summaries := digests_and_counts(rows)):
        raise UserError(f"no rows are left of {sum(rows_read.values())} in {located.files['dev']}: give more")
    return LabelledRows(rows, len(bad), located.source, located.files["dev"], summaries["dev"][0])


def load_unlabelled(
    spark: SparkSession, task: TaskConfig, data: DataConfig, own: Datasets, bad_rows_file: Path
) -> DataFrame:
    """Read or generate the text that `data.unlabelled` names.

    Return rows of the split `unlabelled`, whose label is null. Each text occurs once, and texts of the task's `own`
    rows are left out. At most `data.unlabelled_rows` of the others are chosen, by hash.

    Raises:
        UserError: it cannot be read, too many rows are bad, or nothing is left.

    """
    path = str(data.unlabelled)
    if path == "corpus":
        read = _generate(spark, task, data)
    else:
        read = read_rows(spark, task, path, False, data.max_characters, plain_text=True)
    read = read.withColumn("split", F.lit(UNLABELLED)).persist()
    bad, rows_read = _bad_rows(read, Located("files", {UNLABELLED: path}))
    check_bad_rows(bad, rows_read, data.max_bad_fraction, bad_rows_file)
    text = joined(F.trim("sentence1"), F.trim("sentence2"))
    known = reduce(DataFrame.unionByName, own.splits.values()).select(text.alias("_text"))
    good = read.where("problem IS NULL").withColumns({name: F.trim(name) for name in ("sentence1", "sentence2")})
    new = good.withColumn("_text", text).dropDuplicates(["_text"]).join(known, "_text", "left_anti")
    rank = F.sha2(F.concat_ws(SEPARATOR, F.lit(str(data.seed)), "_text"), 256)
    chosen = new.orderBy(rank).limit(data.unlabelled_rows)
    anonymous = chosen.withColumns({"id": F.lit(None).cast("string"), "label": F.lit(None).cast("double")})
    rows = with_ids(anonymous).select(*CANONICAL).persist()
    if rows.isEmpty():
        raise UserError(
            f"data.unlabelled={path}: no rows are left of {rows_read[UNLABELLED]}: all are bad, or among the task's own"
        )
    return rows


def _generate(spark: SparkSession, task: TaskConfig, data: DataConfig) -> DataFrame:
    """Generate rows in the columns of `read_rows`."""
    rows = pretraining_rows(task.name, data.unlabelled_rows, data.seed)
    second: Sequence[str | None] = rows.sentence2 or [None] * len(rows.sentence1)
    schema = "sentence1 string, sentence2 string"
    texts = spark.createDataFrame(list(zip(rows.sentence1, second, strict=True)), schema)
    return texts.withColumns({name: F.lit(None).cast("string") for name in ("source", "row", "problem")})


def _read(spark: SparkSession, task: TaskConfig, located: Located, max_characters: int) -> DataFrame:
    parts = [
        read_rows(spark, task, file, require_label=True, max_characters=max_characters).withColumn(
            "split", F.lit(split)
        )
        for split, file in located.files.items()
    ]
    return reduce(DataFrame.unionByName, parts).persist()


def _bad_rows(read: DataFrame, located: Located) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the bad rows and each split's number of rows; the first action, which fails on unreadable files."""
    with reading(" and ".join(located.files.values())):
        bad_rows = F.collect_list(F.when(F.col("problem").isNotNull(), F.struct("row", "problem")))
        splits = read.groupBy("split").agg(F.count("*").alias("rows"), bad_rows.alias("bad")).collect()
    rows_read = {part["split"]: part["rows"] for part in splits}
    bad = pd.DataFrame(
        [(part["split"], located.files[part["split"]], *row) for part in splits for row in part["bad"]],
        columns=["split", "file", "row", "reason"],
    )
    for split, file in located.files.items():
        if not rows_read.get(split):
            raise UserError(f"{file} has no rows: {split} needs some")
    return bad, rows_read


def _split(good: DataFrame, task: TaskConfig, data: DataConfig) -> DataFrame:
    train = good.where(F.col("split") == "train")
    sided = split_train(train, task, data.validation_fraction, data.sample_fraction, data.seed)
    return sided.unionByName(good.where(F.col("split") == "dev")).select(*CANONICAL)


def _report(located: Located, counts: dict[str, int]) -> None:
    shown = ", ".join(f"{key.removeprefix('data/')} {count}" for key, count in counts.items())
    logger.info("data: %s, %s", located.source, shown)
    if contradictions := counts["data/contradictions_train"]:
        logger.warning("%d texts of train have more than one label", contradictions)


def _check_filled(counts: dict[str, int], located: Located) -> None:
    for split in ("train", "validation", "dev"):
        if not counts.get(f"data/{split}"):
            raise UserError(
                f"no rows are left for {split} out of {counts['data/rows_read']} in "
                f"{', '.join(located.files.values())}: give more rows, or change data.sample_fraction or "
                "data.validation_fraction"
            )
