"""The folder beside the output where a scoring keeps what it has done, so that it can go on after it was killed.

```
.OUTPUT.staging/
  fingerprint.json   what is scored, with what
  rows/              the input as parquet, read once
  chunks.json        their schema, and which files are scored together; there once the input is read
  scored/00000/      a chunk's rows with their predictions
  done/00000.json    its figures (`distilspark.drift.summary`); there once the chunk is whole
  output/            what becomes the output
```
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pyspark.sql import SparkSession

from distilspark.config import PredictConfig
from distilspark.data.filesystem import delete, exists, make_folder, name_of, read_text, rename, to_uri, write_text
from distilspark.data.read import Inputs
from distilspark.errors import UserError
from distilspark.package.load import TaskModel

MANIFEST = "_manifest.json"
LAYOUT = 2  # of the staging folder: a job does not go on with one of another version


@dataclass(frozen=True)
class Places:
    """The URIs of an output and of what is kept beside it."""

    output: str
    staging: str
    replaced: str  # the old output, while the new one takes its place

    def of(self, *names: str) -> str:
        """A place in the staging folder."""
        return "/".join([self.staging, *names])


def places_of(output: str) -> Places:
    """Where an output and its staging folder are.

    >>> places_of("s3a://bucket/scored/").staging
    's3a://bucket/.scored.staging'
    """
    uri = to_uri(output).rstrip("/")
    parent = uri.rpartition("/")[0]
    return Places(uri, f"{parent}/.{name_of(uri)}.staging", f"{parent}/.{name_of(uri)}.replaced")


def check_output(spark: SparkSession, places: Places, inputs: Inputs, overwrite: bool) -> None:
    """Raise `UserError` where the output would take something else's place."""
    inside = [file.uri for file in inputs.files if normal(file.uri).startswith(f"{normal(places.output)}/")]
    if inside or normal(places.output) in [normal(file.uri) for file in inputs.files]:
        raise UserError(f"output={places.output} holds the input. Choose another folder")
    check_place(spark, places, overwrite)


def check_place(spark: SparkSession, places: Places, overwrite: bool) -> None:
    """Raise `UserError` where the output is there, unless it may be replaced and is one that scoring wrote."""
    if not exists(spark, places.output):
        return
    if not overwrite:
        raise UserError(f"output={places.output} is there already. Choose another one, or set predict.overwrite=true")
    if not exists(spark, f"{places.output}/{MANIFEST}"):
        raise UserError(
            f"output={places.output} is no scored output (it has no {MANIFEST}): predict.overwrite=true does not "
            "replace it. Choose another folder"
        )


def normal(uri: str) -> str:
    """`file:///data/` and `file:/data` are the same."""
    scheme, _, rest = uri.partition(":")
    return f"file:/{rest.strip('/')}" if scheme == "file" else uri.rstrip("/")


@contextmanager
def only_scoring(places: Places) -> Iterator[None]:
    """Keep other scorings of this machine from the same output; what a killed one held is free again.

    Raises:
        UserError: there is one already, or the folder that the output goes to cannot be written.

    """
    if not places.output.startswith("file:"):
        yield
        return
    file = Path(normal(f"{places.staging}.lock").removeprefix("file:"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file, timeout=0).acquire()
    except Timeout as error:
        raise UserError(
            f"output={places.output} is being written by another scoring. Wait, or choose another"
        ) from error
    except OSError as error:
        raise UserError(
            f"output={places.output} cannot be written: {error.strerror or error}. Choose another folder"
        ) from error
    with lock:
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def fingerprint(config: PredictConfig, inputs: Inputs, model: TaskModel) -> dict[str, Any]:
    """What the predictions depend on, and a sha256 over it."""
    settings = config.predict
    parts = {
        "task": config.task.name,
        "input": [asdict(file) for file in inputs.files],
        "layout": LAYOUT,
        "model": {"uri": model.found.uri, "version": model.found.version, "digest": model.digest},
        "settings": {
            "max_characters": settings.max_characters,
            "batch_tokens": settings.batch_tokens,
            "rows_per_chunk": settings.rows_per_chunk,
        },
    }
    return {"sha256": hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest(), **parts}


def open_staging(spark: SparkSession, places: Places, wanted: dict[str, Any], overwrite: bool) -> None:
    """Make the staging folder, or take up the one that is there if it is of the same fingerprint.

    One of another fingerprint that has scored nothing yet is made anew.

    Raises:
        UserError: it is of another one, and has scored rows.
        WorkError: it cannot be made.

    """
    file = places.of("fingerprint.json")
    if exists(spark, file):
        there = json.loads(read_text(spark, file))
        if there["sha256"] == wanted["sha256"]:
            return
        if exists(spark, places.of("done")) and not overwrite:
            raise UserError(
                f"{places.staging} is left from an unfinished scoring that differs in its "
                f"{_difference(there, wanted)}. "
                "Start it again as it was, or delete that folder, or set predict.overwrite=true"
            )
    delete(spark, places.staging)
    make_folder(spark, places.staging)
    write_json(spark, file, wanted)


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    return " and ".join(part for part in other if part != "sha256" and one.get(part) != other[part])


def publish(spark: SparkSession, places: Places) -> None:
    """Put `output` of the staging folder in its place, and an old output out of it; delete the staging folder."""
    drop_checksums(places.of("output"))
    if exists(spark, places.output):
        delete(spark, places.replaced)
        rename(spark, places.output, places.replaced)
    rename(spark, places.of("output"), places.output)
    delete(spark, places.replaced)
    delete(spark, places.staging)


def drop_checksums(folder: str) -> None:
    """Delete the `.NAME.crc` beside local files: Hadoop would not read a file any more that was edited."""
    if folder.startswith("file:"):
        for file in Path(normal(folder).removeprefix("file:")).glob(".*.crc"):
            file.unlink()


def read_json(spark: SparkSession, uri: str) -> Any:
    """A small JSON file."""
    return json.loads(read_text(spark, uri))


def write_json(spark: SparkSession, uri: str, value: Any) -> None:
    """A small JSON file, whole or not at all."""
    write_text(spark, uri, json.dumps(value, indent=2, ensure_ascii=False))
