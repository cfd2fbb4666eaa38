"""Evaluation: metrics with intervals, slices, examples, plots and comparisons of models."""
