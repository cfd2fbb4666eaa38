"""Made-up rows in GLUE's formats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

ColaRow = tuple[str, str, str]  # source, label, sentence


def cola_rows(count: int, start: int = 0) -> list[ColaRow]:
    """Return rows from three sources; every third is unacceptable."""
    return [
        (f"s{n % 3}", str(int(n % 3 > 0)), f'The "{n}th" gardener waters number {n}.')
        for n in range(start, start + count)
    ]


def cola_lines(rows: Sequence[ColaRow]) -> list[str]:
    """Return lines in CoLA's format: source, label, the author's mark, sentence."""
    return ["\t".join((source, label, "" if label == "1" else "*", sentence)) for source, label, sentence in rows]


def write_lines(file: Path, lines: Sequence[str]) -> Path:
    """Write a text file without a newline at its end, like CoLA's dev.tsv."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines), encoding="utf-8", newline="")
    return file


def write_cola(folder: Path, train: Sequence[ColaRow], dev: Sequence[ColaRow]) -> Path:
    """Write a folder with CoLA's train.tsv and dev.tsv."""
    write_lines(folder / "train.tsv", cola_lines(train))
    write_lines(folder / "dev.tsv", cola_lines(dev))
    return folder


def write_json_lines(file: Path, frame: pd.DataFrame) -> Path:
    """Write one JSON object a line."""
    return write_lines(file, [json.dumps(row, ensure_ascii=False) for row in frame.to_dict("records")])
