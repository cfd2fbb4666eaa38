"""The profile of small splits with known numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pyspark.sql import DataFrame, SparkSession
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from distilspark.config import TaskConfig, TrainConfig
from distilspark.features.pipeline import with_model_texts
from distilspark.features.profile import profile

Compose = Callable[..., TrainConfig]
SCHEMA = "id string, sentence1 string, sentence2 string, label double, source string, split string"


@pytest.fixture
def tokenizer() -> str:
    """One token a word, and the special tokens round them; truncates, as a checkpoint's tokenizer may."""
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    words.enable_truncation(4)
    return words.to_str()


def _splits(
    spark: SparkSession,
    task: TaskConfig,
    rows: dict[str, list[tuple[str, str | None, float, str | None]]],
    text: str = "raw",
) -> dict[str, DataFrame]:
    frames = {
        split: spark.createDataFrame([(str(n), *row, split) for n, row in enumerate(part)], SCHEMA)
        for split, part in rows.items()
    }
    return {split: with_model_texts(frame, task, text) for split, frame in frames.items()}


def test_sentences(spark: SparkSession, compose_config: Compose, tokenizer: str) -> None:
    train = [("The cat sleeps", None, 1.0, "a"), ("Dogs bark", None, 1.0, "b"), ("The the the the", None, 0.0, None)]
    other = [("A bird sings", None, 1.0, "a")]
    task = compose_config("task=cola", "model=tiny").task
    splits = _splits(spark, task, {"train": train, "validation": other, "dev": other})
    result = profile(splits, task, tokenizer, max_length=5)
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


def test_pairs_are_encoded_together(spark: SparkSession, compose_config: Compose, tokenizer: str) -> None:
    rows = [("a b c", "d e", 0.0, None), ("a", "b", 4.9, None), ("a", "b", 5.0, None)]
    task = compose_config("task=stsb", "model=tiny").task
    splits = _splits(spark, task, dict.fromkeys(("train", "validation", "dev"), rows))
    result = profile(splits, task, tokenizer, max_length=64)
    tokens = result.tables["tokens"].set_index("split").loc["dev"]
    assert (tokens["max"], tokens["median"], tokens["cut_share"]) == (8, 5, 0)
    labels = result.tables["labels"].set_index(["split", "label"])["rows"]
    assert dict(labels["dev"]) == {"0-1": 1, "4-5": 2}


def test_tokens_are_those_that_the_model_reads(spark: SparkSession, compose_config: Compose, tokenizer: str) -> None:
    """Stop words are counted in the sentences, tokens in what is left of them."""
    task = compose_config("task=cola", "model=tiny").task
    rows = [("The cat is on the mat", None, 1.0, None)]
    splits = _splits(spark, task, dict.fromkeys(("train", "validation", "dev"), rows), "filtered")
    result = profile(splits, task, tokenizer, max_length=4)
    assert result.metrics["data/tokens_mean"] == 4
    assert result.metrics["data/cut_train"] == 0
    assert result.metrics["data/stop_word_share"] == pytest.approx(4 / 6)
