"""The rules for texts that a model can read, each in Python and in Spark SQL.

Training, evaluation and scoring in Spark use the SQL conditions; the packaged model uses the Python predicates. This
module is packaged with the model and imports nothing from the project.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pyspark.sql import Column

MAX_CHARACTERS = 1_000_000  # of a text, unless configured otherwise
REPLACEMENT = "\ufffd"  # replaces bytes that are not UTF-8
CONTROLS = re.compile("[\x00-\x08\x0e-\x1f]")


@dataclass(frozen=True)
class TextRule:
    """A reason to reject a text, with its condition in Python (on a string) and in SQL (on `{text}`)."""

    reason: str
    applies: Callable[[str], bool]
    sql: str


RULES = (
    TextRule("is empty", lambda text: not text or text.isspace(), r"{text} NOT RLIKE r'(?U)[^\s\x1c-\x1f]'"),
    TextRule("is not valid UTF-8", lambda text: not _is_utf8(text), f"contains({{text}}, '{REPLACEMENT}')"),
    TextRule(
        "is mostly control characters, as UTF-16 or binary content is",
        lambda text: len(text) >= 8 and 5 * len(CONTROLS.findall(text)) >= 2 * len(text),
        r"length({text}) >= 8 AND 5 * (length({text}) - length(regexp_replace({text}, r'[\x00-\x08\x0e-\x1f]', ''))) "
        r">= 2 * length({text})",
    ),
)


def text_problem(value: Any, max_characters: int = MAX_CHARACTERS) -> str:
    """Return the reason to reject a value, as the end of a sentence; empty for a text that can be read.

    >>> text_problem("It is.", 6), text_problem("It is!!", 6), text_problem(" ", 6), text_problem(None)
    ('', 'has 7 characters, more than 6', 'is empty', 'is missing')
    """
    if not isinstance(value, str):
        return "is missing" if pd.api.types.is_scalar(value) and pd.isna(value) else "is not text"
    if len(value) > max_characters:
        return f"has {len(value)} characters, more than {max_characters}"
    return next((rule.reason for rule in RULES if rule.applies(value)), "")


def find_text_problems(rows: pd.DataFrame, columns: list[str], max_characters: int) -> NDArray[Any]:
    """Return (n,) strings: the first reason to reject each row, with the column's name; empty for a good row."""
    problems = np.full(len(rows), "", dtype=object)
    for column in reversed(columns):
        for row, value in enumerate(rows[column].tolist()):
            if problem := text_problem(value, max_characters):
                problems[row] = f"{column} {problem}"
    return problems


def text_problem_column(column: str, max_characters: int = MAX_CHARACTERS) -> Column:
    """Return `text_problem` of a string column as a Spark column, with the column's name; null for a good text."""
    from pyspark.sql import functions as F

    text = f"`{column}`"
    too_long = F.concat(F.lit(f"{column} has "), F.length(column), F.lit(f" characters, more than {max_characters}"))
    return F.coalesce(
        F.when(F.col(column).isNull(), f"{column} is missing"),
        F.when(F.length(column) > max_characters, too_long),
        *(F.when(F.expr(rule.sql.format(text=text)), f"{column} {rule.reason}") for rule in RULES),
    )


def _is_utf8(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates
        return False
    return REPLACEMENT not in text
