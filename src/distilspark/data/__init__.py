"""Rows: sources, formats, validation, splits, as Spark DataFrames."""
