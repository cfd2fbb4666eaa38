"""All rows of the real CoLA and STS-B are read unchanged."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from distilspark.data.loading import Datasets

Load = Callable[..., Datasets]
Row = tuple[object, ...]


def _cola(file: Path) -> list[Row]:
    lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    return [(source, float(label), text) for source, label, _, text in (line.split("\t") for line in lines)]


def _stsb(file: Path) -> list[Row]:
    with file.open(encoding="utf-8", newline="") as lines:
        return [(one, two, float(score)) for one, two, score in csv.reader(lines)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "task, folder, ending, parse, columns, sizes",
    [
        ("cola", "CoLA", "tsv", _cola, ["source", "label", "sentence1"], (8551, 1043)),
        ("stsb", "STS-B", "csv", _stsb, ["sentence1", "sentence2", "label"], (5749, 1500)),
    ],
)
def test_every_row_of_the_real_files_is_read_unchanged(
    load: Load,
    glue: Path,
    task: str,
    folder: str,
    ending: str,
    parse: Callable[[Path], list[Row]],
    columns: list[str],
    sizes: tuple[int, int],
) -> None:
    datasets = load(glue / folder, task=task)
    frames = {split: frame.toPandas() for split, frame in datasets.splits.items()}
    train = pd.concat([frames["train"], frames["validation"]])
    assert (len(train), len(frames["dev"])) == sizes
    assert datasets.counts["data/rows_read"] == sum(sizes)
    assert datasets.counts["data/rows_bad"] == 0
    for name, frame in (("train", train), ("dev", frames["dev"])):
        rows = frame[columns].itertuples(index=False, name=None)
        assert Counter(rows) == Counter(parse(glue / folder / f"{name}.{ending}"))
        assert frame["id"].is_unique
    texts = [set(zip(frames[split]["sentence1"], frames[split]["sentence2"], strict=True)) for split in frames]
    assert not texts[0] & texts[1]


@pytest.mark.slow
def test_sampled_splits_of_cola_keep_the_label_shares_within_one_row(load: Load, glue: Path) -> None:
    datasets = load(glue / "CoLA", "data.sample_fraction=0.2")
    labels = Counter(label for _, label, _ in _cola(glue / "CoLA" / "train.tsv"))
    for split, share in (("train", 0.16), ("validation", 0.04)):
        kept = Counter(datasets.splits[split].toPandas()["label"])
        assert all(abs(kept[label] - share * total) <= 1 for label, total in labels.items())
