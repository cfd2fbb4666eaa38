"""Spark features: words without stop words, model texts, token ids."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from distilspark.config import TrainConfig
from distilspark.features.encoding import Encoded, encode, load_tokenizer
from distilspark.features.pipeline import stop_words, text_pipeline, with_model_texts, with_token_ids
from distilspark.features.stop_words import drop_stop_words

Compose = Callable[..., TrainConfig]
SCHEMA = "id string, sentence1 string, sentence2 string, label double, source string, split string"


def test_text_pipeline_adds_lowercase_tokens_and_filtered_tokens(spark: SparkSession) -> None:
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
def test_filtered_text_has_no_stop_words_unless_nothing_else_is_left(
    spark: SparkSession, compose_config: Compose, text: str, filtered: str
) -> None:
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


@pytest.mark.parametrize("is_pair", [False, True])
def test_token_ids_in_spark_equal_those_of_the_driver(spark: SparkSession, tiny_folder: Path, is_pair: bool) -> None:
    """For texts that are empty, have unknown words, or exceed the maximum length."""
    texts = ["the dog was not", "", "it is " * 20, "東京 she", "Who was it?"]
    others = texts[::-1]
    columns = {"id": range(len(texts)), "text1": texts} | ({"text2": others} if is_pair else {})
    rows = spark.createDataFrame(list(zip(*columns.values(), strict=True)), list(columns)).repartition(3)
    tokenizer = load_tokenizer(tiny_folder)
    collected = with_token_ids(rows, tokenizer, 16).toPandas().sort_values("id")
    assert collected.columns.tolist() == [*columns, "token_ids", "tokens", "unknown_tokens"]
    ours, expected = Encoded.from_frame(collected), encode(tokenizer, texts, others if is_pair else None, 16)
    for ids, same in zip(ours.token_ids, expected.token_ids, strict=True):
        np.testing.assert_array_equal(ids, same)
        assert ids.dtype == same.dtype
    for name in ("lengths", "full_lengths", "unknown"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(expected, name))
    assert expected.unknown.any() and (expected.full_lengths > 16).any()
