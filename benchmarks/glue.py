"""The rows for the benchmarks: GLUE's files beside the project, else the sample corpus."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from distilspark.corpus.sample import sample_corpus
from distilspark.paths import ROOT

GLUE = ROOT.parent / "shared" / "glue"
NAME = "GLUE" if GLUE.is_dir() else "sample corpus"


def read_cola(split: str) -> pd.DataFrame:
    """Read `train` or `dev` with the columns `source`, `label`, `mark`, `sentence`."""
    names = ["source", "label", "mark", "sentence"]
    file = _folder("cola", "CoLA") / f"{split}.tsv"
    return pd.read_csv(file, sep="\t", header=None, quoting=3, names=names, keep_default_na=False)


def read_stsb(split: str) -> pd.DataFrame:
    """Read `train` or `dev` with the columns `sentence1`, `sentence2`, `label`."""
    file, names = _folder("stsb", "STS-B") / f"{split}.csv", ["sentence1", "sentence2", "label"]
    return pd.read_csv(file, header=None, names=names, keep_default_na=False)


def _folder(task: str, name: str) -> Path:
    return GLUE / name if GLUE.is_dir() else sample_corpus(task, {"train": 4000, "dev": 1000}, 42)
