"""Files where Spark sees them: local paths and any URI that its Hadoop file systems know."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from distilspark.errors import UserError

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")


def to_uri(path: str) -> str:
    """A path as Spark must see it: a URI as it is, anything else as a local file, relative to the current folder.

    >>> to_uri("s3a://bucket/glue"), to_uri("/data/CoLA/../SST 2/")
    ('s3a://bucket/glue', 'file:/data/SST 2')
    """
    if SCHEME.match(path):
        return path
    return "file:" + os.path.abspath(Path(path).expanduser())  # noqa: PTH100 - Path.absolute keeps `..`


def to_spark(uri: str) -> str:
    """The URI for `spark.read`, which takes `*`, `?`, brackets and braces in a name for patterns."""
    return re.sub(r"([*?{}\[\]\\])", r"\\\1", uri)


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
    except (Py4JJavaError, PySparkException) as error:
        raise UserError(
            f"{uri} cannot be read: {_cause(error)}. Check the path, its permissions and its content"
        ) from error


def _cause(error: Exception) -> str:
    if isinstance(error, Py4JJavaError):
        java = error.java_exception
        while java.getCause() is not None:
            java = java.getCause()
        kind, text = java.getClass().getSimpleName(), java.getMessage()
    else:
        kind, text = type(error).__name__, str(error)
    first = (text or "").strip().splitlines() or [""]
    return f"{kind}: {first[0]}".rstrip(".: ")


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


def _path(spark: SparkSession, uri: str) -> Any:
    jvm: Any = spark._jvm
    return jvm.org.apache.hadoop.fs.Path(uri)


def _filesystem(spark: SparkSession, uri: str) -> Any:
    return _path(spark, uri).getFileSystem(spark._jsc.hadoopConfiguration())
