"""Scoring without the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from helpers.scorings import Scoring


@pytest.fixture
def score(spark: SparkSession, tmp_path: Path, saved: Callable[[str], Path]) -> Scoring:
    """A scoring of files below the test's folder."""
    return Scoring(spark, tmp_path, saved)
