"""Python and Spark report the same problems of a text, in the same words."""

from __future__ import annotations

import sys
import unicodedata

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from distilspark.data.text_rules import find_text_problems, text_problem, text_problem_column

SURROGATES = range(0xD800, 0xE000)


def in_spark(spark: SparkSession, values: list[str | None], most: int) -> list[str]:
    """Return the texts' problems from the Spark column."""
    rows = spark.createDataFrame(list(enumerate(values)), "place int, sentence1 string")
    found = rows.select("place", text_problem_column("sentence1", most).alias("problem")).toPandas()
    return found.sort_values("place")["problem"].fillna("").tolist()


def in_python(values: list[str | None], most: int) -> list[str]:
    """Return the texts' problems from the packaged model's function."""
    return list(find_text_problems(pd.DataFrame({"sentence1": values}, dtype=object), ["sentence1"], most))


def test_spark_and_python_agree_on_every_character(spark: SparkSession) -> None:
    signs = [chr(code) for code in range(sys.maxunicode + 1) if code not in SURROGATES and code < 0x3100]
    signs += [chr(code) for code in (0xFEFF, 0xFFFD, 0xFFFE, 0x1F642, sys.maxunicode)]
    values = [*signs, *(f"ab{sign}" for sign in signs), None, ""]
    assert in_spark(spark, values, 100) == in_python(values, 100)
    blank = [sign for sign in signs if text_problem(sign) == "is empty"]
    assert {unicodedata.category(sign) for sign in blank} <= {"Zs", "Zl", "Zp", "Cc"}


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    st.lists(
        st.none() | st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\0\1\x1c \ufffd"), max_size=12)
    )
)
def test_random_texts(spark: SparkSession, values: list[str | None]) -> None:
    assert in_spark(spark, values, 8) == in_python(values, 8)


def test_values_that_are_not_text_have_a_problem() -> None:
    values = [5, 0.5, float("nan"), np.nan, None, pd.NA, ["a"], b"a", "\ud800"]
    expected = ["is not text"] * 2 + ["is missing"] * 4 + ["is not text"] * 2 + ["is not valid UTF-8"]
    assert [text_problem(value) for value in values] == expected


def test_the_first_column_with_a_problem_is_named() -> None:
    rows = pd.DataFrame({"sentence1": ["a", " ", ""], "sentence2": [None, "b", "x" * 9]})
    found = list(find_text_problems(rows, ["sentence1", "sentence2"], 8))
    assert found == ["sentence2 is missing", "sentence1 is empty", "sentence1 is empty"]


def test_utf16_read_as_utf8_is_a_problem() -> None:
    for text in ("A cat sleeps.", "Кошка спит."):
        for encoding in ("utf-16-le", "utf-16-be"):
            assert "control characters" in text_problem(text.encode(encoding).decode(errors="replace")) or "UTF-8" in (
                text_problem(text.encode(encoding).decode(errors="replace"))
            )
    assert text_problem("a tab\there, a \0 there") == ""
