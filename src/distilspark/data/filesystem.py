"""Files where Spark sees them: local paths and any URI that its Hadoop file systems know."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from distilspark.errors import UserError, WorkError

SPARK_ERRORS = (Py4JJavaError, PySparkException)
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")


def to_uri(path: str) -> str:
    """A path as Spark must see it: a URI as it is, anything else as a local file, relative to the current folder.

    >>> to_uri("s3a://bucket/glue"), to_uri("/data/CoLA/../SST 2/")
    ('s3a://bucket/glue', 'file:/data/SST 2')
    """
    if SCHEME.match(path):
        return path
    return "file:" + os.path.abspath(Path(path).expanduser())  # noqa: PTH100 - Path.absolute keeps `..`


def to_spark(uris: str | Sequence[str]) -> list[str]:
    """URIs for `spark.read`, which takes `*`, `?`, brackets and braces in a name for patterns."""
    every = [uris] if isinstance(uris, str) else uris
    return [re.sub(r"([*?{}\[\]\\])", r"\\\1", uri) for uri in every]


def name_of(uri: str) -> str:
    """The last part of a URI.

    >>> name_of("file:/data/glue/train.tsv/")
    'train.tsv'
    """
    return uri.rstrip("/").rpartition("/")[2]


@contextmanager
def reading(uri: str) -> Iterator[None]:
    """Turn what Spark, Hadoop or Java raise while they read `uri` into a `UserError` with its cause."""
    try:
        yield
    except SPARK_ERRORS as error:
        raise UserError(
            f"{uri} cannot be read: {cause_of(error)}. Check the path, its permissions and its content"
        ) from error


@contextmanager
def writing(uri: str) -> Iterator[None]:
    """Turn what Hadoop or Java raise while they change something at `uri` into a `WorkError` with its cause."""
    try:
        yield
    except SPARK_ERRORS as error:
        raise WorkError(f"{uri} cannot be written: {cause_of(error)}. Check its permissions and free space") from error


def cause_of(error: Exception) -> str:
    """What began it, on one line: kind and message of the innermost exception that is known."""
    if isinstance(error, Py4JJavaError):
        java = error.java_exception
        while java.getCause() is not None:
            java = java.getCause()
        kind, text = java.getClass().getSimpleName(), java.getMessage()
    else:
        kind, text = type(error).__name__, str(error)
    first = _raised_in_python(text or "") or (text or "").strip().partition("\n")[0]
    return f"{kind}: {first}".rstrip(".: ")


def _raised_in_python(text: str) -> str:
    r"""The last line of a Python worker's traceback, before those of Java; empty where there is none.

    >>> _raised_in_python("A worker:\nTraceback (most recent call last):\n  at x\nValueError: no\n\tat java")
    'ValueError: no'
    """
    _, _, traceback = text.partition("Traceback (most recent call last):\n")
    python = re.split(r"\n\tat |\n+JVM stacktrace", traceback)[0]
    return next((line for line in reversed(python.splitlines()) if line and not line[0].isspace()), "")


def data_files(spark: SparkSession, uri: str) -> list[str]:
    """The files that Spark reads from a file or folder, sorted: the file itself, or a folder's, hidden ones left out.

    Raises:
        UserError: the path does not exist or cannot be read, or the folder holds no files.

    """
    files = [entry for entry, is_folder in list_folder(spark, uri) if not is_folder] if is_folder(spark, uri) else [uri]
    if not files:
        raise UserError(f"{uri} holds no data files. Give a file, or a folder that holds some")
    return files


def is_folder(spark: SparkSession, uri: str) -> bool:
    """Whether the URI is a folder; a `UserError` where there is nothing."""
    with reading(uri):
        return _filesystem(spark, uri).getFileStatus(_path(spark, uri)).isDirectory()


def list_folder(spark: SparkSession, uri: str) -> list[tuple[str, bool]]:
    """A folder's visible entries, sorted, as (URI, whether it is a folder); `_SUCCESS` and the like are not."""
    with reading(uri):
        statuses = _filesystem(spark, uri).listStatus(_path(spark, uri))
    entries = sorted((status.getPath().getName(), status.isDirectory()) for status in statuses)
    return [(f"{uri.rstrip('/')}/{name}", folder) for name, folder in entries if name[0] not in "._"]


def read_head(spark: SparkSession, uri: str, size: int) -> bytes:
    """The first `size` bytes of a file, or all of a shorter one."""
    with reading(uri):
        stream = _filesystem(spark, uri).open(_path(spark, uri))
        try:
            return bytes(stream.readNBytes(size))
        finally:
            stream.close()


@dataclass(frozen=True)
class InputFile:
    """A file as it stood when it was listed."""

    uri: str
    size: int  # bytes
    modified: int  # milliseconds since 1970


def find_files(spark: SparkSession, path: str) -> list[InputFile]:
    """The files that a file, a folder (its own folders too) or a glob stand for, sorted, hidden ones left out.

    Raises:
        UserError: nothing is there, or it cannot be read.

    """
    uri = to_uri(path)
    filesystem = _filesystem(spark, uri)
    with reading(uri):
        roots = _roots(filesystem, _path(spark, uri))
        files = sorted((file for root in roots for file in _files_below(filesystem, root)), key=lambda file: file.uri)
    if not roots:
        raise UserError(f"{uri} is not there. Give a file, a folder, or a glob that fits some")
    if not files:
        raise UserError(f"{uri} holds no data files. Give a file, a folder that holds some, or a glob")
    return files


def _roots(filesystem: Any, path: Any) -> list[Any]:
    """The path itself where it is there, whatever its name, else what fits it as a glob."""
    if filesystem.exists(path):
        return [path]
    # null, not an empty array, for a path without a pattern
    return [status.getPath() for status in filesystem.globStatus(path) or []]


def _files_below(filesystem: Any, root: Any) -> Iterator[InputFile]:
    """The visible files of a folder, at any depth; a file itself."""
    base = len(root.toUri().getPath().rstrip("/"))
    listed = filesystem.listFiles(root, True)
    while listed.hasNext():
        status = listed.next()
        below = status.getPath().toUri().getPath()[base:].split("/")
        if not any(part.startswith((".", "_")) for part in below):
            yield InputFile(status.getPath().toString(), status.getLen(), status.getModificationTime())


def exists(spark: SparkSession, uri: str) -> bool:
    """Whether there is anything."""
    with reading(uri):
        return bool(_filesystem(spark, uri).exists(_path(spark, uri)))


def read_text(spark: SparkSession, uri: str) -> str:
    """A small file's text."""
    return read_head(spark, uri, 2**31 - 1).decode("utf-8")


def write_text(spark: SparkSession, uri: str, text: str) -> None:
    """Write a small file and the folders above it; it appears whole or not at all."""
    partial = f"{uri}.partial"
    with writing(uri):
        stream = _filesystem(spark, uri).create(_path(spark, partial), True)
        try:
            stream.write(bytearray(text.encode("utf-8")))
        finally:
            stream.close()
    delete(spark, uri)
    rename(spark, partial, uri)


def rename(spark: SparkSession, source: str, target: str) -> None:
    """Give a file or folder another name, where nothing has that name yet; atomic on local disks and HDFS."""
    with writing(target):
        renamed = _filesystem(spark, source).rename(_path(spark, source), _path(spark, target))
    if not renamed:
        raise WorkError(f"{source} cannot be renamed to {target}. Check its permissions")


def delete(spark: SparkSession, uri: str) -> None:
    """Delete a file, or a folder with all in it; nothing where there is nothing."""
    with writing(uri):
        _filesystem(spark, uri).delete(_path(spark, uri), True)


def make_folder(spark: SparkSession, uri: str) -> None:
    """Make a folder and those above it."""
    with writing(uri):
        made = _filesystem(spark, uri).mkdirs(_path(spark, uri))
    if not made:
        raise WorkError(f"{uri} cannot be made. Check the permissions of the folder above it")


def _path(spark: SparkSession, uri: str) -> Any:
    jvm: Any = spark._jvm
    return jvm.org.apache.hadoop.fs.Path(uri)


def _filesystem(spark: SparkSession, uri: str) -> Any:
    return _path(spark, uri).getFileSystem(spark._jsc.hadoopConfiguration())
