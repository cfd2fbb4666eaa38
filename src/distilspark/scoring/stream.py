"""Score the files that arrive in a folder, each exactly once, even if a process is killed.

Structured Streaming finds the files and records in a checkpoint which of them are in which batch. A batch is scored
like other files and published by one rename, under its number. If Spark was killed before it recorded a batch, it
requests the batch again, which then exists already.

```
OUTPUT/
  batch=00000/       the rows of a batch, and its manifest
  _manifest.json     the sums over all batches
  _stream/           the state of the stream, hidden from readers of the rows
    stream.json      its input, task and format
    run.json         the MLflow run of the start that writes here
    checkpoint/      Spark's
    links.json       files that were read through a link, and in which batch
    batch=00001/     the staging folder of the batch that is being scored
```
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from threading import Event
from types import FrameType
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from distilspark.config import PredictConfig
from distilspark.console import print_line, working
from distilspark.data.filesystem import (
    SPARK_ERRORS,
    cause_of,
    delete,
    exists,
    is_folder,
    list_folder,
    local_path,
    name_of,
    rename,
    to_spark,
    to_uri,
    writing,
)
from distilspark.data.input_files import HIDDEN_PREFIXES, InputFile, linked_identity, refuse_table
from distilspark.data.read import group_files
from distilspark.drift.indices import measure_drift
from distilspark.drift.profile import profile_of
from distilspark.drift.summary import sum_summaries
from distilspark.errors import UserError, WorkError
from distilspark.package.load import TaskModel
from distilspark.scoring.job import ScoringResult, score_files
from distilspark.scoring.manifest import sum_manifests
from distilspark.scoring.model_udf import Udf, make_udf
from distilspark.scoring.output import BATCH
from distilspark.scoring.staging import (
    MANIFEST,
    OutputPaths,
    check_replaceable,
    drop_hidden_files,
    lock_output,
    normalize_uri,
    output_paths,
    read_json,
    write_json,
)
from distilspark.tracking.runs import end_interrupted

POLL_SECONDS = 0.2  # seconds between the driver's checks for a published batch
FILE_SCHEMA = "path string, modificationTime timestamp, length long, content binary"  # Spark's `binaryFile`
MAX_FILE_AGE = "36500d"  # by default Spark skips files that are a week older than the newest
# the batch's number, the batch, the total of this process
ReportBatch = Callable[[int, ScoringResult, ScoringResult], None]


def score_stream(
    spark: SparkSession, config: PredictConfig, model: TaskModel, report: ReportBatch, run_id: str | None = None
) -> ScoringResult | None:
    """Score files until a signal stops the stream; with `predict.available_now`, only the existing ones.

    Returns:
        the total of what was published, without metrics on labelled rows; None if nothing was.

    Raises:
        UserError: a file cannot be read, or the output is another's.
        WorkError: a batch fails. It is scored again when the stream is started again.

    """
    assert config.input and config.output
    paths = output_paths(config.output)
    with lock_output(paths), _until_signal() as stop:
        with working("opening the stream"):
            _open_output(spark, config, paths)
            _drop_partial_files(f"{paths.output}/_stream")
            _record_run(spark, paths, run_id)
            batches = _BatchScorer(
                spark, _allow_overwrite(config), model, make_udf(spark, config, model), paths.output, run_id
            )
            query = _start(spark, config, paths, batches)
        print_line(f"watching {config.input}: {_advice(config)}")
        try:
            while query.isActive and not stop.wait(POLL_SECONDS):
                batches.report(report)
        finally:
            query.stop()
        batches.report(report)
        if not stop.is_set():
            _check_end(query, batches)
        return batches.total


def is_streamed(path: str, folder: str) -> bool:
    """Return whether a path lies in the watched folder and is not hidden there.

    >>> [is_streamed(path, "file:/in") for path in ("/in/a/b.txt", "/in/_a/b.txt", "/out/b.txt", "7:1234")]
    [True, False, False, False]
    """
    base = Path(os.path.realpath(local_path(folder) or ""))
    if not Path(path).is_relative_to(base):
        return False
    return not any(part.startswith(HIDDEN_PREFIXES) for part in Path(path).relative_to(base).parts)


def _advice(config: PredictConfig) -> str:
    if config.predict.available_now:
        return "the stream ends once all present files are scored"
    return "Ctrl-C stops the stream, and the same command continues it"


@contextmanager
def _until_signal() -> Iterator[Event]:
    """Yield an event that Ctrl-C and SIGTERM set; an exception inside a call would leave the JVM's answer unread."""
    stop = Event()

    def set_stop(number: int, frame: FrameType | None) -> None:
        if stop.is_set():  # the second signal does not wait for the batch
            raise KeyboardInterrupt
        stop.set()

    before = {each: signal.signal(each, set_stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _open_output(spark: SparkSession, config: PredictConfig, paths: OutputPaths) -> None:
    """Make the output, or continue an existing one.

    Raises:
        UserError: the input is no folder, input and output are nested, or the output belongs to another stream.

    """
    assert config.input
    source, target = normalize_uri(to_uri(config.input)), normalize_uri(paths.output)
    if not is_folder(spark, source):
        raise UserError(f"input={config.input} is no folder, and predict.streaming=true watches a folder. Give one")
    refuse_table(spark, source)
    if f"{source}/".startswith(f"{target}/") or f"{target}/".startswith(f"{source}/"):
        raise UserError(f"output={paths.output} and input={config.input} contain one another. Choose another folder")
    state, begun = "_stream/stream.json", f"{paths.staging.removesuffix('staging')}begun"
    wanted = {"task": config.task.name, "input": source, "format": config.predict.format}
    if exists(spark, f"{paths.output}/{state}"):
        if (there := read_json(spark, f"{paths.output}/{state}")) == wanted:
            delete(spark, paths.replaced)  # left by a start that was killed below
            return
        if not config.predict.overwrite:
            raise UserError(
                f"output={paths.output} is of another stream: {_difference(there, wanted)}. "
                "Choose another folder, or set predict.overwrite=true"
            )
    else:
        check_replaceable(spark, paths, config.predict.overwrite)
    delete(spark, begun)
    write_json(spark, f"{begun}/{state}", wanted)
    if exists(spark, paths.output):
        delete(spark, paths.replaced)
        rename(spark, paths.output, paths.replaced)
    rename(spark, begun, paths.output)  # a folder without `stream.json` would be refused by the next start
    delete(spark, paths.replaced)


def _drop_partial_files(folder: str) -> None:
    """Delete partial files of a killed process from a local folder, including those in Spark's checkpoint."""
    if local := local_path(folder):
        with writing(folder):
            for file in local.rglob(".*"):
                if {".partial", ".tmp"} & set(file.suffixes):
                    file.unlink()


def _record_run(spark: SparkSession, paths: OutputPaths, run_id: str | None) -> None:
    """End the MLflow run of a killed start, and record this start's."""
    file = f"{paths.output}/_stream/run.json"
    if exists(spark, file):
        end_interrupted(read_json(spark, file)["run"], run_id)
    write_json(spark, file, {"run": run_id})


def _difference(there: dict[str, str], wanted: dict[str, str]) -> str:
    return " and ".join(f"its {key} is {there[key]}" for key in wanted if there[key] != wanted[key])


def _allow_overwrite(config: PredictConfig) -> PredictConfig:
    """Allow overwriting: an unfinished batch of other settings or an earlier model was never published."""
    return replace(config, predict=replace(config.predict, overwrite=True))  # type: ignore[type-var]


def _start(
    spark: SparkSession, config: PredictConfig, paths: OutputPaths, take: Callable[[DataFrame, int], None]
) -> StreamingQuery:
    """Start the query over the folder's files, not their content: each batch reads its own, whatever their formats."""
    assert config.input
    files = (
        spark.readStream.format("binaryFile")
        .schema(FILE_SCHEMA)
        .options(recursiveFileLookup=True, maxFilesPerTrigger=config.predict.files_per_batch, maxFileAge=MAX_FILE_AGE)
        .load(*to_spark(to_uri(config.input)))
        .select("path", "length", F.unix_millis("modificationTime").alias("modified"))
    )
    writer = files.writeStream.foreachBatch(take).option("checkpointLocation", f"{paths.output}/_stream/checkpoint")
    if config.predict.available_now:
        return writer.trigger(availableNow=True).start()
    return writer.trigger(processingTime=f"{config.predict.trigger_seconds} seconds").start()


@dataclass
class _BatchScorer:
    """The scorer of batches. Spark calls it in its own thread; it reports in the driver's, which has the run."""

    spark: SparkSession
    config: PredictConfig
    model: TaskModel
    udf: Udf
    output: str
    run_id: str | None
    total: ScoringResult | None = None  # of the batches that were reported
    failure: Exception | None = None
    _published: SimpleQueue[tuple[int, ScoringResult]] = field(default_factory=SimpleQueue)
    _sums: dict[str, Any] = field(init=False)  # over all batches in the output

    def __post_init__(self) -> None:
        there = [uri for uri, _ in list_folder(self.spark, self.output) if name_of(uri).startswith(f"{BATCH}=")]
        self._add_to_sums(*(read_json(self.spark, f"{uri}/{MANIFEST}") for uri in there))

    def __call__(self, files: DataFrame, number: int) -> None:
        try:
            if scored := self._score(files, number):
                self._published.put((number, scored))
        except Exception as error:  # Spark would wrap it
            self.failure = error
            raise

    def _score(self, files: DataFrame, number: int) -> ScoringResult | None:
        started, name = time.perf_counter(), f"{BATCH}={number:05}"
        staging = f"{self.output}/_stream/{name}"
        paths = OutputPaths(f"{self.output}/{name}", staging, f"{staging}.replaced")
        if exists(self.spark, paths.output):
            delete(self.spark, staging)
            return None
        listed = [
            InputFile(row["path"], row["length"], row["modified"], to_uri(str(self.config.input)))
            for row in sorted(files.collect())
        ]
        inputs = group_files(self.spark, self.config.task, self._drop_known_links(listed, number))
        if not inputs.groups:
            return None
        scored = score_files(self.spark, self.config, self.model, self.udf, inputs, paths, started, self.run_id)
        self._add_to_sums(self._sums, scored.manifest)
        return scored

    def _drop_known_links(self, files: list[InputFile], number: int) -> list[InputFile]:
        """Drop links to files that the stream reads by another path; record linked files in `links.json`."""
        file = f"{self.output}/_stream/links.json"
        batches: dict[str, int] = read_json(self.spark, file) if exists(self.spark, file) else {}
        known = {identity for identity, batch in batches.items() if batch != number}
        kept = []
        for each in files:
            identity = linked_identity(each)
            if identity is None or not (identity in known or is_streamed(identity, each.base)):
                kept.append(each)
            if identity:
                known.add(identity)
                batches.setdefault(identity, number)
        if batches:
            write_json(self.spark, file, batches)
        return kept

    def _add_to_sums(self, *manifests: dict[str, Any]) -> None:
        self._sums = sum_manifests(manifests)
        write_json(self.spark, f"{self.output}/{MANIFEST}", self._describe(self._sums))
        drop_hidden_files(self.output)

    def report(self, report: ReportBatch) -> None:
        """Report the batches that were published since the last call."""
        while not self._published.empty():
            number, scored = self._published.get()
            self.total = self._add(scored, number)
            report(number, scored, self.total)

    def _add(self, scored: ScoringResult, number: int) -> ScoringResult:
        parts = [self.total, scored] if self.total else [scored]
        manifest = self._describe(sum_manifests(part.manifest for part in parts)) | {"last_batch": number}
        summary = sum_summaries(part.summary for part in parts)
        profile = profile_of(summary, self.config.task)
        return ScoringResult(manifest, summary, profile, measure_drift(self.model.profile, profile), {})

    def _describe(self, sums: dict[str, Any]) -> dict[str, Any]:
        settings = {"task": self.config.task.name, "format": self.config.predict.format, "input": self.config.input}
        return settings | sums


def _check_end(query: StreamingQuery, batches: _BatchScorer) -> None:
    """Raise the error that ended the query, if any; a batch's own error unchanged."""
    failure = batches.failure or query.exception()
    if isinstance(failure, SPARK_ERRORS):
        raise WorkError(f"the stream ended: {cause_of(failure)}. Start it again: it continues from there") from failure
    if failure:
        raise failure
