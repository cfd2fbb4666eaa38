"""Sources of a task's rows: the hub, the user's files, or the generated sample corpus."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import SparkSession

from distilspark.config import DataConfig, TaskConfig
from distilspark.corpus.sample import sample_corpus
from distilspark.data.filesystem import is_folder, list_folder, name_of, to_uri
from distilspark.errors import UserError
from distilspark.hub import cached_file, fetch_file, hub_answers, hub_endpoint

logger = logging.getLogger(__name__)
SPLITS = ("train", "dev")  # of a source
ENDINGS = r"(-\d+-of-\d+)?(\.(tsv|csv|txt|jsonl|ndjson|json|parquet|pq))?(\.gz)?"


@dataclass(frozen=True)
class Located:
    """The chosen source and the URI of each split."""

    source: str  # hub | files | sample
    files: dict[str, str]


def locate(spark: SparkSession, task: TaskConfig, data: DataConfig, splits: Sequence[str] = SPLITS) -> Located:
    """Find the splits' files; `auto` takes the hub if it is cached or answers, else the sample.

    A split that is requested alone may be a single file (`data=files data.path=FILE`).

    Raises:
        UserError: an explicitly chosen source is not available; the message names it and a remedy.

    """
    locators: dict[str, Callable[[SparkSession, TaskConfig, DataConfig, Sequence[str]], Located]] = {
        "auto": _auto,
        "hub": _hub,
        "files": _files,
        "sample": _sample,
    }
    return locators[data.source](spark, task, data, splits)


def _auto(spark: SparkSession, task: TaskConfig, data: DataConfig, splits: Sequence[str]) -> Located:
    cached = all(cached_file(data.dataset, task.hub[split], data.revision, "dataset") for split in splits)
    if not cached and not hub_answers():
        logger.info("data=auto takes the sample corpus: %s does not answer", hub_endpoint())
        return _sample(spark, task, data, splits)
    try:
        return _hub(spark, task, data, splits)
    except UserError as error:
        logger.warning("data=auto takes the sample corpus: %s", error)
        return _sample(spark, task, data, splits)


def _hub(spark: SparkSession, task: TaskConfig, data: DataConfig, splits: Sequence[str]) -> Located:
    try:
        files = {
            split: to_uri(str(fetch_file(data.dataset, task.hub[split], data.revision, "dataset"))) for split in splits
        }
    except UserError as error:
        raise UserError(
            f"data=hub: {error}. Use data=files data.path=FOLDER with a copy of your own, or data=sample (no network)"
        ) from error
    return Located("hub", files)


def _sample(spark: SparkSession, task: TaskConfig, data: DataConfig, splits: Sequence[str]) -> Located:
    corpus = sample_corpus(task.name, data.sample_rows, data.seed)
    return Located("sample", find_splits(spark, task, str(corpus), splits))


def _files(spark: SparkSession, task: TaskConfig, data: DataConfig, splits: Sequence[str]) -> Located:
    if not data.path:
        raise UserError("data.path is not set: data=files reads a folder, e.g. data.path=/data/glue/CoLA")
    uri = to_uri(data.path)
    if len(splits) == 1 and not is_folder(spark, uri):
        return Located("files", {splits[0]: uri})
    return Located("files", find_splits(spark, task, data.path, splits))


def find_splits(spark: SparkSession, task: TaskConfig, path: str, splits: Sequence[str] = SPLITS) -> dict[str, str]:
    """Find the file or folder of each split in a folder, by the names in `task.splits`, earlier names first.

    Raises:
        UserError: not a folder, or a split is missing or ambiguous.

    """
    uri = to_uri(path)
    if not is_folder(spark, uri):
        raise UserError(
            f"data.path={path} is one file. Give a folder that holds both train and dev, e.g. train.tsv, dev.tsv"
        )
    entries = [entry for entry, _ in list_folder(spark, uri)]
    return {split: _find(entries, task.splits[split], split, uri) for split in splits}


def _find(entries: list[str], names: list[str], split: str, uri: str) -> str:
    for name in names:
        found = [entry for entry in entries if re.fullmatch(re.escape(name) + ENDINGS, name_of(entry))]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(
                f"{uri} holds {', '.join(map(name_of, found))}: which is {split}? Keep one, or put parts in {split}/"
            )
    seen = ", ".join(map(name_of, entries)) or "nothing"
    raise UserError(
        f"{uri} holds no {split}. Seen: {seen}. Expected {' or '.join(names)} (.tsv, .csv, .jsonl, .parquet, .gz)"
    )
