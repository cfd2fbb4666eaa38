"""The Spark ML pipeline of words without stop words."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pyspark.sql import SparkSession

from distilspark.config import TrainConfig
from distilspark.features.pipeline import stop_words, text_pipeline, with_model_texts
from distilspark.features.stop_words import drop_stop_words

Compose = Callable[..., TrainConfig]
SCHEMA = "id string, sentence1 string, sentence2 string, label double, source string, split string"


def test_the_pipelines_columns(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("The cat sat on THE mat.", "A Dog  barked")], "one string, two string")
    words = text_pipeline(["one", "two"]).fit(rows).transform(rows).first()
    assert words["one_tokens"] == ["the", "cat", "sat", "on", "the", "mat."]
    assert words["one_filtered"] == ["cat", "sat", "mat."]
    assert [word for word in words["two_filtered"] if word] == ["dog", "barked"]


@pytest.mark.parametrize(
    "text, filtered",
    [
        ("The cat sat on THE mat.", "cat sat mat."),
        ("To be or not to be", "to be or not to be"),
        ("  Two  spaces ", "two spaces"),
        ("Non-breaking\u00a0space \t the tab", "non-breaking\u00a0space tab"),
        ("Ünïcode İstanbul 東京", "ünïcode i̇stanbul 東京"),
    ],
)
def test_filtered_texts(spark: SparkSession, compose_config: Compose, text: str, filtered: str) -> None:
    task = compose_config("task=cola", "model=tiny").task
    rows = spark.createDataFrame([("1", text, None, 1.0, "s", "dev")], SCHEMA)
    result = with_model_texts(rows, task, "filtered")
    assert result.columns == [*rows.columns, "text1"]
    assert tuple(result.first()) == ("1", text, None, 1.0, "s", "dev", filtered)
    assert drop_stop_words(text, set(stop_words())) == filtered


def test_raw_texts_are_the_sentences(spark: SparkSession, compose_config: Compose) -> None:
    task = compose_config("task=stsb", "model=tiny").task
    rows = spark.createDataFrame([("1", "The  one", "the OTHER", 1.0, None, "dev")], SCHEMA)
    row = with_model_texts(rows, task, "raw").first()
    assert (row["text1"], row["text2"]) == ("The  one", "the OTHER")


def test_both_texts_of_a_pair_are_filtered(spark: SparkSession, compose_config: Compose) -> None:
    task = compose_config("task=stsb", "model=tiny").task
    rows = spark.createDataFrame([("1", "A man is dancing", "It is what it is", 1.0, None, "dev")], SCHEMA)
    row = with_model_texts(rows, task, "filtered").first()
    assert (row["text1"], row["text2"]) == ("man dancing", "it is what it is")
