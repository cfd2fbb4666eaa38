"""Stable ids, the sample and the validation split: they depend on the rows and the seed, not on order or partitions."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from distilspark.config import TaskConfig

ID_DIGITS = 16
SEPARATOR = "\x1f"


def with_ids(rows: DataFrame) -> DataFrame:
    """Give every row of a split a unique id.

    It is the file's index if there is one, else 16 hex digits of the texts' sha256; the k-th repetition of an id,
    k from 1, gets the suffix `-k`, in the order of text and label.
    """
    base = F.coalesce("id", F.substring(F.sha2(joined("sentence1", "sentence2"), 256), 1, ID_DIGITS))
    same = Window.partitionBy("split", "_base").orderBy("sentence1", "sentence2", "label", "source")
    numbered = rows.withColumn("_base", base).withColumn("_k", F.row_number().over(same) - 1)
    unique = F.when(F.col("_k") == 0, F.col("_base")).otherwise(F.concat_ws("-", "_base", "_k"))
    return numbered.withColumn("id", unique).drop("_base", "_k")


def split_train(
    train: DataFrame, task: TaskConfig, validation_fraction: float, sample_fraction: float, seed: int
) -> DataFrame:
    """Assign each row of train to `split` train or validation, then keep `sample_fraction` of both.

    Both cuts are stratified by label (regression: by ten equal bins of the score) and within half a row of their
    fraction of every stratum, except that rows of equal text stay together (texts with several labels are strata of
    their own). A smaller sample is a subset of a larger one of the same seed, in train as in validation.
    """
    text = joined(F.trim("sentence1"), F.trim("sentence2"))
    ranked = train.withColumn("_rank", F.sha2(F.concat_ws(SEPARATOR, F.lit(str(seed)), text), 256))
    same_text = Window.partitionBy("_rank")
    stratum = task.head_kind.stratum(task, F.col("label"))
    labels = [F.min(stratum).over(same_text).alias("low"), F.max(stratum).over(same_text).alias("high")]
    ranked = ranked.withColumn("_stratum", F.struct(*labels))
    is_validation = _is_first(validation_fraction, "_stratum")
    sided = ranked.withColumn("split", F.when(is_validation, "validation").otherwise("train"))
    if sample_fraction < 1:
        sided = sided.withColumn("_kept", _is_first(sample_fraction, "_stratum", "split")).where("_kept")
    return sided.drop("_rank", "_stratum", "_kept")


def _is_first(fraction: float, *stratum: str) -> Column:
    """Return whether the middle of a group of equal `_rank` is in the first `fraction` of its stratum, by rank."""
    whole = Window.partitionBy(*stratum)
    ordered = whole.orderBy("_rank")
    start = F.rank().over(ordered) - 1
    end = F.count("*").over(ordered.rangeBetween(Window.unboundedPreceding, Window.currentRow))
    return (start + end) / 2 < fraction * F.count("*").over(whole)


def digests_and_counts(rows: DataFrame) -> dict[str, tuple[str, int]]:
    """Return for each split 36 hex digits of a sha256 over its sorted texts and labels, and its number of rows.

    Ids and sources are left out, so that the same data has the same digest in every format.
    """
    row_hash = F.sha2(joined("sentence1", "sentence2", F.col("label").cast("string")), 256)
    whole = F.sha2(F.concat_ws("", F.sort_array(F.collect_list(row_hash))), 256)
    splits = rows.groupBy("split").agg(F.substring(whole, 1, 36).alias("digest"), F.count("*").alias("rows")).collect()
    return {row["split"]: (row["digest"], row["rows"]) for row in splits}


def joined(*parts: Column | str) -> Column:
    """Join the parts into one string; null counts as empty, so that every row has equally many separators."""
    return F.concat_ws(SEPARATOR, *(F.coalesce(part, F.lit("")) for part in parts))
