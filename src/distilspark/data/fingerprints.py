"""Hashes of rows' texts, to compare two data sets when only one of them is available."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from distilspark.data.splits import SEPARATOR, joined

Hashes = NDArray[np.int64]


def text_hashes(rows: pd.DataFrame) -> Hashes:
    """Return (n,): the first 64 bits of the sha256 of each row's stripped `sentence1` and `sentence2`.

    >>> text_hashes(pd.DataFrame({"sentence1": ["It is.", " It is. "], "sentence2": [None, None]}))
    array([-6350937101649526369, -6350937101649526369])

    """
    texts = (rows[column].fillna("").str.strip() for column in ("sentence1", "sentence2"))
    digests = [hashlib.sha256(SEPARATOR.join(pair).encode()).digest() for pair in zip(*texts, strict=True)]
    return np.array([int.from_bytes(digest[:8], "big", signed=True) for digest in digests], np.int64)


def distinct_text_hashes(rows: DataFrame) -> Hashes:
    """Return the distinct `text_hashes` of a Spark DataFrame's rows, sorted; only the hashes leave Spark."""
    digest = F.sha2(joined(_stripped("sentence1"), _stripped("sentence2")), 256)
    signed = F.conv(F.substring(digest, 1, 16), 16, -10).cast("long")
    return np.sort(rows.select(signed.alias("hash")).distinct().toPandas()["hash"].to_numpy(np.int64))


def _stripped(column: str) -> Column:
    """Strip the white space that Python's `str.strip` strips."""
    return F.regexp_replace(column, r"(?U)^[\s\x1c-\x1f]+|[\s\x1c-\x1f]+$", "")


def overlap(rows: pd.DataFrame, known: Hashes) -> int:
    """Count the rows whose text hashes are in `known`."""
    return int(np.isin(text_hashes(rows), known).sum())
