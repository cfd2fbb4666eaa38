"""Words without stop words, by a Spark ML pipeline: for the profile, and as the model's text on request."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.ml import Pipeline, Transformer
from pyspark.ml.feature import StopWordsRemover, Tokenizer
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from distilspark.config import TaskConfig


def text_pipeline(columns: Sequence[str]) -> Pipeline:
    """For each text column `c`: `c_tokens`, lower-cased and cut at white space, and `c_filtered`, without stop words.

    The stop words are Spark's English ones, which hold negations ("not", "no"). A comma or full stop stays with its
    word, and a word with one is no stop word.
    """
    stages: list[Transformer] = []
    for column in columns:
        stages.append(Tokenizer(inputCol=column, outputCol=f"{column}_tokens"))
        stages.append(StopWordsRemover(inputCol=f"{column}_tokens", outputCol=f"{column}_filtered", locale="en_US"))
    return Pipeline(stages=list(stages))


def with_words(rows: DataFrame, task: TaskConfig) -> DataFrame:
    """Canonical rows with the pipeline's columns."""
    return text_pipeline(task.text_columns).fit(rows).transform(rows)


def with_model_texts(rows: DataFrame, task: TaskConfig, text: str) -> DataFrame:
    """Canonical rows with what the model reads: `text1`, and `text2` for pairs.

    `text` is `features.text`: `raw`, the sentences themselves, or `filtered`, their lower-cased words without stop
    words. A sentence that is all stop words keeps its words: an empty text would be a bad row.
    """
    names = dict(zip(task.text_columns, ("text1", "text2"), strict=False))
    if text == "raw":
        return rows.withColumns({name: F.col(column) for column, name in names.items()})
    filtered = with_words(rows, task)
    return filtered.select(*rows.columns, *(_filtered(column).alias(name) for column, name in names.items()))


def stop_words() -> list[str]:
    """The words that the pipeline removes; asks the running session's JVM."""
    return list(StopWordsRemover.loadDefaultStopWords("english"))


def _filtered(column: str) -> Column:
    kept = F.array_remove(f"{column}_filtered", "")
    words = F.when(F.size(kept) > 0, kept).otherwise(F.array_remove(f"{column}_tokens", ""))
    return F.concat_ws(" ", words)
