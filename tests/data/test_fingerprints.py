"""Text hashes identify rows by their texts only."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pyspark.sql import SparkSession

from distilspark.data.fingerprints import distinct_text_hashes, overlap, text_hashes
from distilspark.data.splits import ID_DIGITS, with_ids


def rows(*texts: tuple[str, str | None]) -> pd.DataFrame:
    return pd.DataFrame(texts, columns=["sentence1", "sentence2"])


def test_hash_depends_on_both_sentences_and_ignores_outer_white_space() -> None:
    hashes = text_hashes(rows(("a", "b"), ("b", "a"), ("ab", None), ("a", None), ("", "a"), ("A", "b")))
    assert len(set(hashes)) == 6
    assert hashes.dtype == np.int64
    assert text_hashes(rows(("a\t", " b\u00a0"))) == hashes[0]
    assert text_hashes(rows()).shape == (0,)


def test_overlap_counts_rows() -> None:
    known = text_hashes(rows(("a", None), ("b", None)))
    assert overlap(rows(("b", None), ("c", None), ("b", None), ("b", "x")), known) == 2
    assert overlap(rows(("c", None)), known) == 0


def test_spark_and_pandas_compute_the_same_hashes(spark: SparkSession) -> None:
    """For every character that Python strips as white space, and for unusual texts."""
    spaces = [character for character in map(chr, range(0x3100)) if character.isspace()]
    assert len(spaces) > 25
    texts = [(f"{space}It is.{space}", f"{space} é{space}a ") for space in spaces]
    odd = [("", None), ("a\u200b", "\ufeffb"), ("\U0001f600", ""), ("It is.", "é a"), (" \n\t", "$1\\")]
    assert len(set(text_hashes(rows(*texts[:1], *odd)))) == 6
    both = [*texts, *odd, *odd]
    found = distinct_text_hashes(spark.createDataFrame(both, "sentence1 string, sentence2 string"))
    np.testing.assert_array_equal(found, np.unique(text_hashes(rows(*both))))


def test_rows_without_an_id_get_their_text_hash_as_id(spark: SparkSession) -> None:
    frame = rows(("It is.", None), ("é", "b")).assign(id=None, label=1.0, source=None, split="dev")
    schema = "sentence1 string, sentence2 string, id string, label double, source string, split string"
    named = with_ids(spark.createDataFrame(frame.astype(object).where(frame.notna(), None), schema)).toPandas()
    expected = [f"{int(value) % 2**64:0{ID_DIGITS}x}" for value in text_hashes(named)]
    assert named["id"].tolist() == expected
