"""The sentences that the benchmarks run on: CoLA beside the project, else the sample corpus."""

from __future__ import annotations

import pandas as pd

from distilspark.corpus.sample import sample_corpus
from distilspark.paths import ROOT

GLUE = ROOT.parent / "shared" / "glue" / "CoLA"
NAME = "CoLA" if GLUE.is_dir() else "sample corpus"


def read_cola(split: str) -> pd.DataFrame:
    """`train` or `dev`: columns `source`, `label`, `mark`, `sentence`."""
    folder = GLUE if GLUE.is_dir() else sample_corpus("cola", {"train": 4000, "dev": 1000}, 42)
    names = ["source", "label", "mark", "sentence"]
    return pd.read_csv(folder / f"{split}.tsv", sep="\t", header=None, quoting=3, names=names, keep_default_na=False)
