"""The folder beside the output where a scoring keeps what it has done, so that it can go on after it was killed.

```
.OUTPUT.staging/
  fingerprint.json      what is scored, with what
  owner.json            the scoring that works here: each start takes over from the one before
  rows-OWNER/           the input as parquet, read once
  chunks.json           its folder and schema, and the files that are scored together; there once the input is read
  scored/00000-OWNER/   a chunk's rows with their predictions
  done/00000.json       its folder and its figures (`distilspark.drift.summary`); there once the chunk is whole
  output-OWNER/         what becomes the output
```

Two scorings that share no lock (of two machines, say) write to folders with different names. The one that was taken
over stops at its next check, and all that it has marked as done counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout
from pyspark.sql import SparkSession

from distilspark.config import PredictConfig
from distilspark.data.filesystem import (
    delete,
    exists,
    list_folder,
    local_path,
    make_folder,
    name_of,
    read_text,
    rename,
    to_uri,
    write_text,
    writing,
)
from distilspark.data.read import Inputs
from distilspark.errors import UserError, WorkError
from distilspark.package.load import TaskModel

MANIFEST = "_manifest.json"
LAYOUT = 3  # of the staging folder: a job does not go on with one of another version


@dataclass(frozen=True)
class OutputPaths:
    """The URIs of an output and of its staging folder."""

    output: str
    staging: str
    replaced: str  # the old output, while the new one takes its place
    owner: str = field(default_factory=lambda: uuid4().hex[:12])  # of this start

    def of(self, *names: str) -> str:
        """Return a path in the staging folder."""
        return "/".join([self.staging, *names])

    def own(self, *names: str) -> str:
        """Return a path in the staging folder that no other start writes to."""
        return f"{self.of(*names)}-{self.owner}"


def output_paths(output: str) -> OutputPaths:
    """Return the paths of an output.

    >>> output_paths("s3a://bucket/scored/").staging
    's3a://bucket/.scored.staging'
    """
    uri = to_uri(output).rstrip("/")
    parent = uri.rpartition("/")[0]
    return OutputPaths(uri, f"{parent}/.{name_of(uri)}.staging", f"{parent}/.{name_of(uri)}.replaced")


def check_output(spark: SparkSession, paths: OutputPaths, inputs: Inputs, overwrite: bool) -> None:
    """Raise `UserError` where the output would take something else's place."""
    inside = [file.uri for file in inputs.files if normal(file.uri).startswith(f"{normal(paths.output)}/")]
    if inside or normal(paths.output) in [normal(file.uri) for file in inputs.files]:
        raise UserError(f"output={paths.output} holds the input. Choose another folder")
    check_place(spark, paths, overwrite)


def check_place(spark: SparkSession, paths: OutputPaths, overwrite: bool) -> None:
    """Raise `UserError` where the output is there, unless it may be replaced and is one that scoring wrote."""
    if not exists(spark, paths.output):
        return
    if not overwrite:
        raise UserError(f"output={paths.output} is there already. Choose another one, or set predict.overwrite=true")
    if not exists(spark, f"{paths.output}/{MANIFEST}"):
        raise UserError(
            f"output={paths.output} is no scored output (it has no {MANIFEST}): predict.overwrite=true does not "
            "replace it. Choose another folder"
        )


def normal(uri: str) -> str:
    """Return one spelling for all of a URI.

    >>> normal("FILE:///data/"), normal("S3A://bucket/data/")
    ('file:/data', 's3a://bucket/data')
    """
    scheme, _, rest = uri.partition(":")
    return f"file:/{rest.strip('/')}" if scheme.lower() == "file" else f"{scheme.lower()}:{rest}".rstrip("/")


@contextmanager
def only_scoring(paths: OutputPaths) -> Iterator[None]:
    """Keep other scorings of this machine from the same output; what a killed one held is free again.

    Raises:
        UserError: there is one already, or the folder that the output goes to cannot be written.

    """
    if not normal(paths.output).startswith("file:"):
        yield
        return
    file = Path(normal(f"{paths.staging}.lock").removeprefix("file:"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file, timeout=0).acquire()
    except Timeout as error:
        raise UserError(
            f"output={paths.output} is being written by another scoring. Wait, or choose another"
        ) from error
    except OSError as error:
        raise UserError(
            f"output={paths.output} cannot be written: {error.strerror or error}. Choose another folder"
        ) from error
    with lock:
        try:
            yield
        finally:
            with suppress(OSError):  # a lock that stays locks nothing
                file.unlink()


def fingerprint(config: PredictConfig, inputs: Inputs, model: TaskModel) -> dict[str, Any]:
    """Return all that the predictions depend on, and a sha256 over it."""
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
            **({"dedupe": True} if settings.dedupe else {}),
        },
    }
    return {"sha256": hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest(), **parts}


def open_staging(
    spark: SparkSession, paths: OutputPaths, wanted: dict[str, Any], overwrite: bool, run_id: str | None = None
) -> str | None:
    """Make the staging folder, or take over the one that is there if it is of the same fingerprint.

    One of another fingerprint that has scored nothing yet is replaced.

    Returns:
        the id of the run that worked here before, if there was one.

    Raises:
        UserError: it is of another one, and has scored rows.
        WorkError: it cannot be made.

    """
    file, owner = paths.of("fingerprint.json"), paths.of("owner.json")
    own = {"id": paths.owner, "run": run_id, "host": socket.gethostname(), "pid": os.getpid()}
    earlier: dict[str, Any] = read_json(spark, owner) if exists(spark, owner) else {}
    if exists(spark, file):
        there = json.loads(read_text(spark, file))
        if there["sha256"] == wanted["sha256"]:
            write_json(spark, owner, own)
            _delete_unmarked(spark, paths)
            return earlier.get("run")
        if exists(spark, paths.of("done")) and not overwrite:
            raise UserError(
                f"{paths.staging} is left from an unfinished scoring that differs in its "
                f"{_difference(there, wanted)}. "
                "Start it again as it was, or delete that folder, or set predict.overwrite=true"
            )
    delete(spark, paths.staging)
    make_folder(spark, paths.staging)
    write_json(spark, owner, own)
    write_json(spark, file, wanted)
    return earlier.get("run")


def _delete_unmarked(spark: SparkSession, paths: OutputPaths) -> None:
    """Delete the folders that earlier starts have not finished."""
    marks = [uri for uri, _ in list_folder(spark, paths.of("done"))] if exists(spark, paths.of("done")) else []
    finished = {read_json(spark, uri)["folder"] for uri in marks}
    if exists(spark, paths.of("chunks.json")):
        finished.add(read_json(spark, paths.of("chunks.json"))["folder"])
    folders = [uri for uri, _ in list_folder(spark, paths.staging) if name_of(uri).startswith(("rows-", "output-"))]
    if exists(spark, paths.of("scored")):
        folders += [uri for uri, _ in list_folder(spark, paths.of("scored"))]
    for uri in folders:
        if name_of(uri) not in finished:
            delete(spark, uri)


def check_owner(spark: SparkSession, paths: OutputPaths) -> None:
    """Raise `WorkError` where another start has taken over the staging folder, or deleted it."""
    file = paths.of("owner.json")
    there = read_json(spark, file) if exists(spark, file) else None
    if there is None:
        raise WorkError(f"{paths.staging} has been deleted while this scoring worked there. Start it again")
    if there["id"] != paths.owner:
        raise WorkError(
            f"another scoring (process {there['pid']} on {there['host']}) has taken over {paths.staging}, and goes on "
            "with what is done: this one stops. Only one at a time can write an output"
        )


def is_finished(spark: SparkSession, paths: OutputPaths, wanted: dict[str, Any]) -> bool:
    """Return whether the output is this scoring's own, published by a start that was killed before its end."""
    manifest, file = f"{paths.output}/{MANIFEST}", paths.of("fingerprint.json")
    if not exists(spark, paths.staging) or not exists(spark, manifest):
        return False
    published = read_json(spark, manifest).get("fingerprint")
    staged = read_json(spark, file)["sha256"] if exists(spark, file) else published  # where it was being deleted
    return bool(staged == published == wanted["sha256"])


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    return " and ".join(part for part in other if part != "sha256" and one.get(part) != other[part])


def publish(spark: SparkSession, paths: OutputPaths, overwrite: bool) -> None:
    """Give the output its name, in place of an older one that may be replaced, and delete the staging folder.

    Raises:
        UserError: something else has that name by now. It stays, and so does the staging folder.
        WorkError: another scoring has taken over.

    """
    drop_hidden_files(paths.own("output"))
    check_owner(spark, paths)
    check_place(spark, paths, overwrite)
    if exists(spark, paths.output):
        delete(spark, paths.replaced)
        rename(spark, paths.output, paths.replaced)
    rename(spark, paths.own("output"), paths.output)
    clean_up(spark, paths)


def clean_up(spark: SparkSession, paths: OutputPaths) -> None:
    """Delete all that stood beside a published output."""
    delete(spark, paths.replaced)
    delete(spark, paths.staging)


def drop_hidden_files(folder: str) -> None:
    """Delete what Hadoop and killed processes leave in a local folder.

    These are `.NAME.partial`, and `.NAME.crc`, with which Hadoop would not read a file any more that was edited.
    """
    if local := local_path(folder):
        with writing(folder):
            for file in local.glob(".*"):
                if file.suffix in (".crc", ".partial"):
                    file.unlink()


def read_json(spark: SparkSession, uri: str) -> Any:
    """A small JSON file."""
    return json.loads(read_text(spark, uri))


def write_json(spark: SparkSession, uri: str, value: Any) -> None:
    """A small JSON file, whole or not at all."""
    write_text(spark, uri, json.dumps(value, indent=2, ensure_ascii=False))
