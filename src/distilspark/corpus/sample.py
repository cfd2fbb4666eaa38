"""Rows that a seeded grammar generates: the sample corpus (`data=sample`), and rows for pretraining."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from distilspark.cache import cached_folder
from distilspark.corpus import acceptability, similarity
from distilspark.corpus.acceptability import judgements, minimal_pairs
from distilspark.corpus.lexicon import SPLITS
from distilspark.corpus.similarity import scored_pairs
from distilspark.errors import UserError

GRAMMAR_VERSION = 1  # raise it when the grammar generates other rows for the same seed


@dataclass(frozen=True)
class _Corpus:
    fields: Callable[[str, int, Random], list[Sequence[object]]]  # split, rows, random numbers -> fields of each row
    ending: str
    dialect: Mapping[str, object]  # of csv.writer
    pretraining: Callable[[int, Random], GeneratedRows]


@dataclass(frozen=True)
class GeneratedRows:
    """Texts and labels, column by column."""

    sentence1: list[str]
    sentence2: list[str] | None  # None: the task's rows are single sentences
    labels: list[float]


def _acceptability_fields(split: str, rows: int, rng: Random) -> list[Sequence[object]]:
    drawn = judgements(split, rows, rng)
    return [(row.phenomenon, row.label, "" if row.label else "*", row.sentence) for row in drawn]


def _similarity_fields(split: str, rows: int, rng: Random) -> list[Sequence[object]]:
    return [(row.sentence1, row.sentence2, f"{row.score:.1f}") for row in scored_pairs(split, rows, rng)]


def _acceptability_rows(rows: int, rng: Random) -> GeneratedRows:
    drawn = minimal_pairs("train", rows, rng)
    return GeneratedRows([row.sentence for row in drawn], None, [float(row.label) for row in drawn])


def _similarity_rows(rows: int, rng: Random) -> GeneratedRows:
    drawn = scored_pairs("train", rows, rng)
    sentences = [row.sentence1 for row in drawn], [row.sentence2 for row in drawn]
    return GeneratedRows(*sentences, [row.score for row in drawn])


_TSV = {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None, "lineterminator": "\n"}
_CSV = {"lineterminator": "\r\n"}  # RFC 4180
CORPORA = {
    "cola": _Corpus(_acceptability_fields, "tsv", _TSV, _acceptability_rows),
    "stsb": _Corpus(_similarity_fields, "csv", _CSV, _similarity_rows),
}


def vocabulary() -> list[str]:
    """Return all lower-case words of the corpora, sorted: letters only, so `hasn't` is `hasn` and `t`."""
    return sorted({*acceptability.words(), *similarity.words()})


def check_pretraining(task: str, rows: int) -> None:
    """Raise `UserError` if pretraining is configured for a task that the grammar does not have."""
    if rows:
        _check_generated(task, f"training.pretraining.rows={rows}", "set training.pretraining.rows=0")


def check_unlabelled(task: str, unlabelled: str | None) -> None:
    """Raise `UserError` if `data.unlabelled` needs generated rows of a task that the grammar does not have."""
    if unlabelled == "corpus":
        _check_generated(task, "data.unlabelled=corpus", "set data.unlabelled to a file of your own")


def _check_generated(task: str, setting: str, way_out: str) -> None:
    if task not in CORPORA:
        raise UserError(
            f"{setting}: the project generates no rows for task={task}, only for {' and '.join(CORPORA)}; {way_out}"
        )


def pretraining_rows(task: str, rows: int, seed: int) -> GeneratedRows:
    """Generate distinct rows for pretraining, with the nouns and names of the sample corpus's train.

    cola: all phenomena, also those that only the sample corpus's dev has, as minimal pairs. The same arguments give
    the same rows on every machine. No row of the sample corpus's dev is among them, since it has other words.

    Raises:
        KeyError: the task is none of `CORPORA`.
        ValueError: the grammar cannot make that many rows.

    """
    return CORPORA[task].pretraining(rows, Random(f"{task} pretraining {seed}"))


def write_corpus(folder: Path, task: str, rows: Mapping[str, int], seed: int) -> None:
    """Write the task's train and dev to `folder`, in the formats of GLUE's own files, without header.

    cola: `train.tsv` and `dev.tsv` (phenomenon, label, mark, sentence; nothing quoted). stsb: `train.csv` and
    `dev.csv` (sentence, sentence, score with one decimal). The same arguments give the same bytes on every machine; no
    noun or name of one split occurs in the other.

    Raises:
        UserError: the task has no corpus, or the grammar cannot make that many rows.

    """
    corpus = _corpus(task)
    for split, wanted in rows.items():
        _write_split(folder / f"{split}.{corpus.ending}", corpus, task, split, wanted, seed)


def _corpus(task: str) -> _Corpus:
    if task not in CORPORA:
        raise UserError(
            f"task={task} has no sample corpus ({' and '.join(CORPORA)} have one): "
            "take data=hub, or data=files with data.path"
        )
    return CORPORA[task]


def _write_split(path: Path, corpus: _Corpus, task: str, split: str, rows: int, seed: int) -> None:
    if split not in SPLITS:
        raise UserError(f"data.sample_rows.{split}: the sample corpus has the splits {' and '.join(SPLITS)}")
    try:
        fields = corpus.fields(split, rows, Random(f"{task} {split} {seed}"))
    except ValueError as error:
        raise UserError(f"data.sample_rows.{split}={rows}: {error}; ask for fewer rows") from error
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, **corpus.dialect).writerows(fields)  # type: ignore[arg-type]


def sample_corpus(task: str, rows: Mapping[str, int], seed: int) -> Path:
    """Return the folder of the task's corpus in the user's cache, generated if it is missing.

    Raises:
        UserError: as `write_corpus`; the cache cannot be written.

    """
    _corpus(task)
    sizes = "-".join(f"{split}{wanted}" for split, wanted in sorted(rows.items()))
    name = f"sample-{task}-{sizes}-seed{seed}-v{GRAMMAR_VERSION}"
    return cached_folder(name, partial(write_corpus, task=task, rows=rows, seed=seed))
