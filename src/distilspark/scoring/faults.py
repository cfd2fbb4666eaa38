"""Why a row cannot be scored: whatever stands in its text columns, it gets an answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

REPLACEMENT = "\ufffd"  # what bytes that are not UTF-8 are read as


def find_faults(rows: pd.DataFrame, columns: list[str], max_characters: int) -> NDArray[Any]:
    """(n,) strings: what is wrong with each row's text, the first of its columns first; empty where nothing is."""
    faults = np.full(len(rows), "", dtype=object)
    for column in reversed(columns):
        for place, value in enumerate(rows[column].tolist()):
            fault = fault_of(value, max_characters)
            if fault:
                faults[place] = f"{column} {fault}"
    return faults


def fault_of(value: Any, max_characters: int) -> str:
    """What is wrong with one value, as the end of a sentence; empty if it is text that can be scored.

    >>> fault_of("It is.", 6), fault_of("It is!!", 6), fault_of(" ", 6)
    ('', 'has 7 characters, more than 6', 'is empty')
    """
    if not isinstance(value, str):
        return "is missing" if pd.api.types.is_scalar(value) and pd.isna(value) else "is not text"
    if len(value) > max_characters:
        return f"has {len(value)} characters, more than {max_characters}"
    if not value or value.isspace():
        return "is empty"
    return "" if _is_decoded(value) else "is not valid UTF-8"


def _is_decoded(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates
        return False
    return REPLACEMENT not in text
