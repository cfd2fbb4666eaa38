"""The staging folder beside the output, from which a killed scoring resumes.

```
.OUTPUT.staging/
  fingerprint.json      the input, model and settings
  owner.json            the scoring that works here: each start takes over from the one before
  rows-OWNER/           the input as parquet, read once
  chunks.json           its folder and schema, and the files of each chunk; written once the input is read
  scored/00000-OWNER/   a chunk's rows with their predictions
  done/00000.json       its folder and figures (`distilspark.drift.summary`); written once the chunk is complete
  output-OWNER/         the future output
```

Two scorings that share no lock (on two machines, for example) write to folders with different names. The one that was
taken over stops at its next check; the chunks that it has marked as done are kept.
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
STAGING_VERSION = 3  # version of the staging folder; a job does not resume another version's


@dataclass(frozen=True)
class OutputPaths:
    """The URIs of an output and of its staging folder."""

    output: str
    staging: str
    replaced: str  # the old output, while it is being replaced
    owner: str = field(default_factory=lambda: uuid4().hex[:12])  # of this start

    def shared(self, *names: str) -> str:
        """Return a path in the staging folder that all starts use."""
        return "/".join([self.staging, *names])

    def own(self, *names: str) -> str:
        """Return a path in the staging folder that no other start writes to."""
        return f"{self.shared(*names)}-{self.owner}"


def output_paths(output: str) -> OutputPaths:
    """Return the paths of an output.

    >>> output_paths("s3a://bucket/scored/").staging
    's3a://bucket/.scored.staging'
    """
    uri = to_uri(output).rstrip("/")
    parent = uri.rpartition("/")[0]
    return OutputPaths(uri, f"{parent}/.{name_of(uri)}.staging", f"{parent}/.{name_of(uri)}.replaced")


def check_output(spark: SparkSession, paths: OutputPaths, inputs: Inputs, overwrite: bool) -> None:
    """Raise `UserError` if the output would overwrite the input or something else."""
    output = normalize_uri(paths.output)
    if any(f"{normalize_uri(file.uri)}/".startswith(f"{output}/") for file in inputs.files):
        raise UserError(f"output={paths.output} holds the input. Choose another folder")
    check_replaceable(spark, paths, overwrite)


def check_replaceable(spark: SparkSession, paths: OutputPaths, overwrite: bool) -> None:
    """Raise `UserError` if the output exists, unless it may be replaced and was written by scoring."""
    if not exists(spark, paths.output):
        return
    if not overwrite:
        raise UserError(f"output={paths.output} already exists. Choose another one, or set predict.overwrite=true")
    if not exists(spark, f"{paths.output}/{MANIFEST}"):
        raise UserError(
            f"output={paths.output} is no scored output (it has no {MANIFEST}): predict.overwrite=true does not "
            "replace it. Choose another folder"
        )


def normalize_uri(uri: str) -> str:
    """Return the normal form of a URI.

    >>> normalize_uri("FILE:///data/"), normalize_uri("S3A://bucket/data/")
    ('file:/data', 's3a://bucket/data')
    """
    scheme, _, rest = uri.partition(":")
    return f"file:/{rest.strip('/')}" if scheme.lower() == "file" else f"{scheme.lower()}:{rest}".rstrip("/")


@contextmanager
def lock_output(paths: OutputPaths) -> Iterator[None]:
    """Lock the output against other scorings on this machine; a killed process's lock is released.

    Raises:
        UserError: another scoring has the lock, or the output's folder cannot be written.

    """
    if not normalize_uri(paths.output).startswith("file:"):
        yield
        return
    file = Path(normalize_uri(f"{paths.staging}.lock").removeprefix("file:"))
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
            with suppress(OSError):  # a lock file that remains locks nothing
                file.unlink()


def scoring_fingerprint(config: PredictConfig, inputs: Inputs, model: TaskModel) -> dict[str, Any]:
    """Return all that the predictions depend on, and a sha256 over it."""
    settings = config.predict
    parts = {
        "task": config.task.name,
        "input": [asdict(file) for file in inputs.files],
        "layout": STAGING_VERSION,
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
    """Make the staging folder, or take over an existing one with the same fingerprint.

    One with another fingerprint is replaced if it has no scored chunks or `overwrite` is true.

    Returns:
        the id of the run that used the folder before, if any.

    Raises:
        UserError: it has another fingerprint and scored chunks.
        WorkError: it cannot be made.

    """
    file, owner = paths.shared("fingerprint.json"), paths.shared("owner.json")
    own = {"id": paths.owner, "run": run_id, "host": socket.gethostname(), "pid": os.getpid()}
    earlier: dict[str, Any] = read_json(spark, owner) if exists(spark, owner) else {}
    if exists(spark, file):
        there = json.loads(read_text(spark, file))
        if there["sha256"] == wanted["sha256"]:
            write_json(spark, owner, own)
            _delete_unfinished(spark, paths)
            return earlier.get("run")
        if exists(spark, paths.shared("done")) and not overwrite:
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


def _delete_unfinished(spark: SparkSession, paths: OutputPaths) -> None:
    """Delete the unfinished folders of earlier starts."""
    marks = [uri for uri, _ in list_folder(spark, paths.shared("done"))] if exists(spark, paths.shared("done")) else []
    finished = {read_json(spark, uri)["folder"] for uri in marks}
    if exists(spark, paths.shared("chunks.json")):
        finished.add(read_json(spark, paths.shared("chunks.json"))["folder"])
    folders = [uri for uri, _ in list_folder(spark, paths.staging) if name_of(uri).startswith(("rows-", "output-"))]
    if exists(spark, paths.shared("scored")):
        folders += [uri for uri, _ in list_folder(spark, paths.shared("scored"))]
    for uri in folders:
        if name_of(uri) not in finished:
            delete(spark, uri)


def check_owner(spark: SparkSession, paths: OutputPaths) -> None:
    """Raise `WorkError` if another start has taken over the staging folder, or deleted it."""
    file = paths.shared("owner.json")
    there = read_json(spark, file) if exists(spark, file) else None
    if there is None:
        raise WorkError(f"{paths.staging} has been deleted while this scoring worked there. Start it again")
    if there["id"] != paths.owner:
        raise WorkError(
            f"another scoring (process {there['pid']} on {there['host']}) has taken over {paths.staging}, and "
            "continues from its finished chunks: this one stops. Only one at a time can write an output"
        )


def is_finished(spark: SparkSession, paths: OutputPaths, wanted: dict[str, Any]) -> bool:
    """Return whether a killed start of this scoring has already published the output."""
    manifest, file = f"{paths.output}/{MANIFEST}", paths.shared("fingerprint.json")
    if not exists(spark, paths.staging) or not exists(spark, manifest):
        return False
    published = read_json(spark, manifest).get("fingerprint")
    staged = read_json(spark, file)["sha256"] if exists(spark, file) else published  # if killed while deleting it
    return bool(staged == published == wanted["sha256"])


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    return " and ".join(part for part in other if part != "sha256" and one.get(part) != other[part])


def publish_output(spark: SparkSession, paths: OutputPaths, overwrite: bool) -> None:
    """Rename the output to its final name, replacing an older one if allowed, and delete the staging folder.

    Raises:
        UserError: something else has that name by now. It is kept, as is the staging folder.
        WorkError: another scoring has taken over.

    """
    drop_hidden_files(paths.own("output"))
    check_owner(spark, paths)
    check_replaceable(spark, paths, overwrite)
    if exists(spark, paths.output):
        delete(spark, paths.replaced)
        rename(spark, paths.output, paths.replaced)
    rename(spark, paths.own("output"), paths.output)
    clean_up(spark, paths)


def clean_up(spark: SparkSession, paths: OutputPaths) -> None:
    """Delete the temporary folders beside a published output."""
    delete(spark, paths.replaced)
    delete(spark, paths.staging)


def drop_hidden_files(folder: str) -> None:
    """Delete hidden files that Hadoop and killed processes leave in a local folder.

    These are `.NAME.partial`, and `.NAME.crc`, because of which Hadoop would refuse an edited file.
    """
    if local := local_path(folder):
        with writing(folder):
            for file in local.glob(".*"):
                if file.suffix in (".crc", ".partial"):
                    file.unlink()


def read_json(spark: SparkSession, uri: str) -> Any:
    """Read a small JSON file."""
    return json.loads(read_text(spark, uri))


def write_json(spark: SparkSession, uri: str, value: Any) -> None:
    """Write a small JSON file atomically."""
    write_text(spark, uri, json.dumps(value, indent=2, ensure_ascii=False))
