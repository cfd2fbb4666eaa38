"""The profile of small splits with known numbers."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import pytest
from pyspark.sql import DataFrame, SparkSession
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from distilspark.config import TaskConfig, TrainConfig
from distilspark.features.pipeline import with_model_texts, with_token_ids
from distilspark.features.profile import profile_rows

Compose = Callable[..., TrainConfig]
SCHEMA = "id string, sentence1 string, sentence2 string, label double, source string, split string"


@pytest.fixture
def tokenizer() -> Tokenizer:
    """One token a word plus special tokens; with truncation on, as in some checkpoints."""
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    words.enable_truncation(4)
    return words


def _encoded(
    spark: SparkSession,
    task: TaskConfig,
    tokenizer: Tokenizer,
    splits: dict[str, list[tuple[str, str | None, float, str | None]]],
    text: str = "raw",
) -> DataFrame:
    frames = [
        spark.createDataFrame([(str(n), *row, split) for n, row in enumerate(part)], SCHEMA)
        for split, part in splits.items()
    ]
    return with_token_ids(with_model_texts(reduce(DataFrame.unionByName, frames), task, text), tokenizer, 4)


def test_profile_of_sentences_counts_labels_tokens_and_sources(
    spark: SparkSession, compose_config: Compose, tokenizer: Tokenizer
) -> None:
    train = [("The cat sleeps", None, 1.0, "a"), ("Dogs bark", None, 1.0, "b"), ("The the the the", None, 0.0, None)]
    other = [("A bird sings", None, 1.0, "a")]
    task = compose_config("task=cola", "model=tiny").task
    rows = _encoded(spark, task, tokenizer, {"train": train, "validation": other, "dev": other})
    result = profile_rows(rows, task, max_length=5)
    labels = result.tables["labels"].set_index(["split", "label"])
    assert labels.loc[("train", "acceptable"), "rows"] == 2
    assert labels.loc[("train", "unacceptable"), "share"] == pytest.approx(1 / 3)
    tokens = result.tables["tokens"].set_index("split").loc["train"]
    assert (tokens["mean"], tokens["median"], tokens["max"]) == (5, 5, 6)
    assert result.metrics == {
        "data/cut_train": 1,
        "data/cut_validation": 0,
        "data/cut_dev": 0,
        "data/tokens_mean": 5,
        "data/cut_share": pytest.approx(1 / 3),
        "data/stop_word_share": pytest.approx(5 / 9),
    }
    sources = result.tables["sources"].set_index(["split", "source"])["rows"]
    assert dict(sources["train"]) == {"a": 1, "b": 1, "unknown": 1}
    assert set(result.figures) == {"labels", "tokens"}


def test_pairs_are_encoded_together(spark: SparkSession, compose_config: Compose, tokenizer: Tokenizer) -> None:
    pairs = [("a b c", "d e", 0.0, None), ("a", "b", 4.9, None), ("a", "b", 5.0, None)]
    task = compose_config("task=stsb", "model=tiny").task
    rows = _encoded(spark, task, tokenizer, dict.fromkeys(("train", "validation", "dev"), pairs))
    result = profile_rows(rows, task, max_length=64)
    tokens = result.tables["tokens"].set_index("split").loc["dev"]
    assert (tokens["max"], tokens["median"], tokens["cut_share"]) == (8, 5, 0)
    labels = result.tables["labels"].set_index(["split", "label"])["rows"]
    assert dict(labels["dev"]) == {"0-1": 1, "4-5": 2}


def test_tokens_are_counted_in_the_filtered_texts(
    spark: SparkSession, compose_config: Compose, tokenizer: Tokenizer
) -> None:
    """Stop words are counted in the original sentences."""
    task = compose_config("task=cola", "model=tiny").task
    sentence = [("The cat is on the mat", None, 1.0, None)]
    rows = _encoded(spark, task, tokenizer, dict.fromkeys(("train", "validation", "dev"), sentence), "filtered")
    result = profile_rows(rows, task, max_length=4)
    assert result.metrics["data/tokens_mean"] == 4
    assert result.metrics["data/cut_train"] == 0
    assert result.metrics["data/stop_word_share"] == pytest.approx(4 / 6)
