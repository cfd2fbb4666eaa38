"""From canonical rows to token ids in Spark: stop words, the text that the model reads, WordPiece encoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pandas as pd
from pyspark import cloudpickle
from pyspark.ml import Pipeline, Transformer
from pyspark.ml.feature import StopWordsRemover
from pyspark.ml.feature import Tokenizer as WhitespaceTokenizer
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf
from tokenizers import Tokenizer

from distilspark.config import TaskConfig
from distilspark.features import encoding
from distilspark.features.encoding import encode, tokenizer_from_json

ENCODED = "struct<token_ids: array<int>, tokens: bigint, unknown_tokens: bigint>"  # `Encoded.to_frame`
cloudpickle.register_pickle_by_value(encoding)  # a cluster's workers do not have the project


def text_pipeline(columns: Sequence[str]) -> Pipeline:
    """Split each text column `c` into lower-cased words, `c_tokens`, and those without stop words, `c_filtered`.

    The stop words are Spark's English ones, which include negations ("not", "no"). A comma or full stop stays with its
    word, which is then no stop word.
    """
    stages: list[Transformer] = []
    for column in columns:
        stages.append(WhitespaceTokenizer(inputCol=column, outputCol=f"{column}_tokens"))
        stages.append(StopWordsRemover(inputCol=f"{column}_tokens", outputCol=f"{column}_filtered", locale="en_US"))
    return Pipeline(stages=list(stages))


def with_words(rows: DataFrame, task: TaskConfig) -> DataFrame:
    """Add the columns of `text_pipeline` to canonical rows."""
    return text_pipeline(task.text_columns).fit(rows).transform(rows)


def with_model_texts(rows: DataFrame, task: TaskConfig, text: str) -> DataFrame:
    """Add the text that the model reads to canonical rows: `text1`, and `text2` for pairs.

    `text` is `features.text`: `raw`, the sentences themselves, or `filtered`, their lower-cased words without stop
    words. A sentence of stop words only keeps its words: an empty text would be a bad row.
    """
    names = dict(zip(task.text_columns, ("text1", "text2"), strict=False))
    if text == "raw":
        return rows.withColumns({name: F.col(column) for column, name in names.items()})
    filtered = with_words(rows, task)
    return filtered.select(*rows.columns, *(_filtered(column).alias(name) for column, name in names.items()))


def with_token_ids(rows: DataFrame, tokenizer: Tokenizer, max_length: int) -> DataFrame:
    """Encode `text1`, jointly with `text2` if there is one, and add the columns of `Encoded.to_frame`.

    Persist the result if it is used more than once; otherwise every use tokenizes again.
    """
    texts = [name for name in ("text1", "text2") if name in rows.columns]
    encoded = _encode_udf(tokenizer.to_str(), max_length)(F.struct(*texts))
    return rows.withColumn("_encoded", encoded).select(*rows.columns, "_encoded.*")


def stop_words() -> list[str]:
    """Return the words that the pipeline removes; needs a running session."""
    return list(StopWordsRemover.loadDefaultStopWords("english"))


def _filtered(column: str) -> Column:
    remaining = F.array_remove(f"{column}_filtered", "")
    words = F.when(F.size(remaining) > 0, remaining).otherwise(F.array_remove(f"{column}_tokens", ""))
    return F.concat_ws(" ", words)


def _encode_udf(tokenizer_json: str, max_length: int) -> Callable[[Column], Column]:
    def encode_batches(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        tokenizer = tokenizer_from_json(tokenizer_json)  # once a task
        for texts in batches:
            second = texts["text2"].tolist() if "text2" in texts else None
            yield encode(tokenizer, texts["text1"].tolist(), second, max_length).to_frame()

    return pandas_udf(encode_batches, ENCODED)  # type: ignore[call-overload]
