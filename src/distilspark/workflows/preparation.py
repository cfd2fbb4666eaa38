"""Prepare the rows that a training reads: load, tokenize once, profile, log and collect them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from tokenizers import Tokenizer

from distilspark.config import TrainConfig
from distilspark.console import print_line
from distilspark.data.fingerprints import Hashes, distinct_text_hashes
from distilspark.data.loading import UNLABELLED, Datasets, load_datasets, load_unlabelled
from distilspark.data.splits import digests_and_counts
from distilspark.evaluation.predictions import Array
from distilspark.features.encoding import Encoded
from distilspark.features.pipeline import stop_words, with_model_texts, with_token_ids
from distilspark.features.profile import profile_rows
from distilspark.figures import count_rows
from distilspark.tracking.datasets import log_datasets, log_training_texts
from distilspark.tracking.results import log_figures, log_tables
from distilspark.training.batches import Examples, join
from distilspark.training.targets import TargetTransform, make_target_transform
from distilspark.workflows.reporting import logged_bad_rows


@dataclass(frozen=True)
class Split:
    """A split's rows and their token ids."""

    rows: pd.DataFrame  # id, sentence1, sentence2, label, source, split, text1, (text2), tokens
    encoded: Encoded
    soft: Array | None = None  # (n, units): a teacher's predictions

    @property
    def labels(self) -> Array:
        """The labels, (n,) float."""
        return self.rows["label"].to_numpy(dtype=float)

    @property
    def examples(self) -> Examples:
        """The token ids, labels and teacher's predictions."""
        return Examples(self.encoded, self.labels, self.soft)


@dataclass(frozen=True)
class PreparedData:
    """The data in the driver's memory and in Spark."""

    # without train if Spark's workers train, as it may not fit into the driver's memory; with unlabelled text, if any
    splits: dict[str, Split]
    train_labels: pd.DataFrame  # of all rows of train: id, label and source at least
    training_rows: DataFrame  # train and validation with token ids, for as long as the session lives
    stop_words: list[str]  # removed from the text that the network reads
    digest: str  # of train and validation
    target: TargetTransform

    @property
    def training_examples(self) -> Examples:
        """The training rows: train's, and those without labels."""
        train = self.splits["train"].examples
        return join(train, self.splits[UNLABELLED].examples) if UNLABELLED in self.splits else train

    @property
    def training_size(self) -> int:
        """The number of training rows, also if Spark's workers have them."""
        return len(self.train_labels) + (len(self.splits[UNLABELLED].rows) if UNLABELLED in self.splits else 0)


def prepare_data(
    config: TrainConfig, spark: SparkSession, tokenizer: Tokenizer, folder: Path, learnt_before: Hashes | None = None
) -> PreparedData:
    """Load, tokenize, profile and log the data, and collect the driver's part.

    `learnt_before`: hashes of a teacher's training texts; they count as the student's own.
    """
    datasets = load_and_report(config, spark, folder / "bad_rows.csv")
    rows = tokenize(config, reduce(DataFrame.unionByName, datasets.splits.values()), tokenizer)
    log_profile(config, rows)
    prepared = collect(config, rows, datasets)
    if config.data.unlabelled:
        more, digest = load_and_report_unlabelled(config, spark, datasets, folder / "bad_rows_unlabelled.csv")
        prepared = add_unlabelled(prepared, tokenize(config, more, tokenizer), digest)
    log_data(config, datasets, prepared, learnt_before)
    return prepared


def load_and_report(config: TrainConfig, spark: SparkSession, bad_rows: Path) -> Datasets:
    """Load the data; print and log its source and sizes; log bad rows even if they end the run."""
    with logged_bad_rows(bad_rows):
        datasets = load_datasets(spark, config.task, config.data, bad_rows)
    sizes = ", ".join(f"{size} {name}" for name, size in datasets.sizes.items())
    print_line(f"data: {datasets.source} ({sizes} rows)")
    if repeated := datasets.counts["data/duplicates_train_dev"]:
        print_line(f"{repeated} rows of dev are in train too: metrics on them are too optimistic")
    mlflow.set_tag("data.source", datasets.source)
    mlflow.log_metrics({name: float(count) for name, count in datasets.counts.items()})
    return datasets


def load_and_report_unlabelled(
    config: TrainConfig, spark: SparkSession, own: Datasets, bad_rows: Path
) -> tuple[DataFrame, str]:
    """Load the text of `data.unlabelled`; print and log its size; return it with its digest."""
    with logged_bad_rows(bad_rows):
        rows = load_unlabelled(spark, config.task, config.data, own, bad_rows)
    digest, count = digests_and_counts(rows)[UNLABELLED]
    print_line(f"unlabelled: {count_rows(count)} of {config.data.unlabelled}")
    mlflow.set_tags({"data.unlabelled": config.data.unlabelled, f"data.digest.{UNLABELLED}": digest})
    mlflow.log_metric("data/unlabelled", float(count))
    return rows, digest


def add_unlabelled(prepared: PreparedData, rows: DataFrame, digest: str) -> PreparedData:
    """Add rows without labels, as `tokenize` returns them, to the training rows."""
    return replace(
        prepared,
        splits=prepared.splits | {UNLABELLED: collect_split(rows, UNLABELLED)},
        training_rows=prepared.training_rows.unionByName(rows),
        digest=f"{prepared.digest} {digest}",
    )


def tokenize(config: TrainConfig, rows: DataFrame, tokenizer: Tokenizer) -> DataFrame:
    """Return canonical rows with the text that the network reads and its token ids, persisted."""
    texts = with_model_texts(rows, config.task, config.features.text)
    return with_token_ids(texts, tokenizer, config.model.max_length).persist()


def log_profile(config: TrainConfig, rows: DataFrame) -> None:
    """Log the profile's metrics, figures and tables."""
    profile = profile_rows(rows, config.task, config.model.max_length)
    mlflow.log_metrics(profile.metrics)
    log_figures(profile.figures, "profile")
    log_tables(profile.tables, "profile")


def collect(config: TrainConfig, rows: DataFrame, datasets: Datasets) -> PreparedData:
    """Collect the splits that the driver needs: all, or all except train if Spark's workers train."""
    in_driver = [name for name in datasets.splits if name != "train" or config.training.workers == 1]
    splits = {name: collect_split(rows, name) for name in in_driver}
    train = splits["train"].rows if "train" in splits else _collect(_of_split(rows, "train"), "id", "label", "source")
    return PreparedData(
        splits=splits,
        train_labels=train,
        training_rows=rows.where(F.col("split") != "dev"),
        stop_words=stop_words() if config.features.text == "filtered" else [],
        digest=" ".join(datasets.digests[name] for name in ("train", "validation")),
        target=make_target_transform(train["label"].to_numpy(dtype=float), config.task, config.training),
    )


def collect_split(rows: DataFrame, name: str) -> Split:
    """Collect a split, with its token ids separate from its rows."""
    collected = _collect(_of_split(rows, name), *rows.columns)
    return Split(collected.drop(columns=["token_ids", "unknown_tokens"]), Encoded.from_frame(collected))


def log_data(
    config: TrainConfig, datasets: Datasets, prepared: PreparedData, learnt_before: Hashes | None = None
) -> None:
    """Log the splits as datasets of the run, and hashes of the texts used for training and selection."""
    example, name = prepared.splits["dev"].rows.drop(columns="tokens"), f"{config.task.name}-{datasets.source}"
    log_datasets(datasets.sizes, example, datasets.files, datasets.digests, name)
    texts = distinct_text_hashes(prepared.training_rows)
    log_training_texts(texts if learnt_before is None else np.union1d(texts, learnt_before))


def _of_split(rows: DataFrame, name: str) -> DataFrame:
    return rows.where(F.col("split") == name)


def _collect(rows: DataFrame, *columns: str) -> pd.DataFrame:
    """Collect columns in an order that does not depend on partitions: batches and the bootstrap draw by position."""
    return rows.select(*columns).toPandas().sort_values("id", ignore_index=True)
