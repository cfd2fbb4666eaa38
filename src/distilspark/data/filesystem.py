"""Files as Spark sees them: local paths and the URIs that its Hadoop file systems support."""

from __future__ import annotations

import io
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import pyarrow  # type: ignore[import-untyped]
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from distilspark.errors import UserError, WorkError
from distilspark.paths import SCHEME

SPARK_ERRORS = (Py4JJavaError, PySparkException)
BUFFER = 1 << 20  # bytes read by one call to the JVM


def to_uri(path: str) -> str:
    """Return a path as a URI: a URI unchanged, anything else as a local file, relative to the current folder.

    >>> to_uri("s3a://bucket/glue"), to_uri("/data/CoLA/../SST 2/")
    ('s3a://bucket/glue', 'file:/data/SST 2')
    """
    if local := local_path(path) if SCHEME.match(path) else Path(path):
        return "file:" + os.path.abspath(local.expanduser())  # noqa: PTH100 - Path.absolute keeps `..`
    return path


def to_spark(uris: str | Sequence[str]) -> list[str]:
    """Escape URIs for `spark.read`, which reads `*`, `?`, brackets and braces as patterns."""
    every = [uris] if isinstance(uris, str) else uris
    return [re.sub(r"([*?{}\[\]\\])", r"\\\1", uri) for uri in every]


def name_of(uri: str) -> str:
    """Return the last part of a URI.

    >>> name_of("file:/data/glue/train.tsv/")
    'train.tsv'
    """
    return uri.rstrip("/").rpartition("/")[2]


def local_path(uri: str) -> Path | None:
    """Return the path of a `file:` URI; None for any other.

    >>> local_path("file:///data/train.tsv"), local_path("s3a://bucket/train.tsv")
    (PosixPath('/data/train.tsv'), None)
    """
    scheme, _, rest = uri.partition(":")
    return Path("/" + rest.lstrip("/")) if scheme.lower() == "file" else None


@contextmanager
def reading(uri: str) -> Iterator[None]:
    """Convert an exception of Spark, Hadoop or Java while reading `uri` to a `UserError` with its cause."""
    try:
        yield
    except (*SPARK_ERRORS, OSError, EOFError, zlib.error, pyarrow.ArrowException) as error:
        raise UserError(f"{uri} cannot be read: {cause_of(error)}. {_way_out(error)}") from error


def _way_out(error: Exception) -> str:
    text = str(error)
    if "No FileSystem for scheme" in text or "ClassNotFoundException" in text:
        return "Add the jar of its file system (spark.settings.spark.jars.packages), or give a local path"
    return "Check the path, its permissions and its content"


@contextmanager
def writing(uri: str) -> Iterator[None]:
    """Convert an exception of Hadoop or Java while changing `uri` to a `WorkError` with its cause."""
    try:
        yield
    except (*SPARK_ERRORS, OSError) as error:
        raise WorkError(f"{uri} cannot be written: {cause_of(error)}. Check its permissions and free space") from error


def cause_of(error: Exception) -> str:
    """Return the innermost exception's kind and message, on one line."""
    if isinstance(error, Py4JJavaError):
        java = error.java_exception
        while java.getCause() is not None:
            java = java.getCause()
        kind, text = java.getClass().getSimpleName(), java.getMessage()
    else:
        kind, text = type(error).__name__, getattr(error, "strerror", None) or str(error)
    first = _raised_in_python(text or "") or (text or "").strip().partition("\n")[0]
    return f"{kind}: {first}".rstrip(".: ")


def _raised_in_python(text: str) -> str:
    r"""Return the last line of a Python worker's traceback, before those of Java; empty if there is none.

    >>> _raised_in_python("A worker:\nTraceback (most recent call last):\n  at x\nValueError: no\n\tat java")
    'ValueError: no'
    """
    _, _, traceback = text.partition("Traceback (most recent call last):\n")
    python = re.split(r"\n\tat |\n+JVM stacktrace", traceback)[0]
    return next((line for line in reversed(python.splitlines()) if line and not line[0].isspace()), "")


def is_folder(spark: SparkSession, uri: str) -> bool:
    """Return whether the URI is a folder; raise `UserError` if it does not exist."""
    with reading(uri):
        return filesystem_of(spark, uri).getFileStatus(hadoop_path(spark, uri)).isDirectory()


def list_folder(spark: SparkSession, uri: str) -> list[tuple[str, bool]]:
    """List a folder's visible entries, sorted, as (URI, whether it is a folder); `_SUCCESS` and the like are hidden."""
    with reading(uri):
        statuses = filesystem_of(spark, uri).listStatus(hadoop_path(spark, uri))
    entries = sorted((status.getPath().getName(), status.isDirectory()) for status in statuses)
    return [(f"{uri.rstrip('/')}/{name}", folder) for name, folder in entries if name[0] not in "._"]


def read_head(spark: SparkSession, uri: str, size: int) -> bytes:
    """Return the first `size` bytes of a file, or all of a shorter one."""
    with reading(uri), open_file(spark, uri) as file:
        return file.read(size)


def read_all(spark: SparkSession, uri: str) -> bytes:
    """Return a file's bytes."""
    return read_head(spark, uri, -1)


def open_file(spark: SparkSession, uri: str) -> IO[bytes]:
    """Open any file that Spark can read. Errors are those of Python, Hadoop or Java (`reading`)."""
    if path := local_path(uri):
        return path.open("rb")
    return io.BufferedReader(_HadoopFile(spark, uri), BUFFER)


class _HadoopFile(io.RawIOBase):
    """A readable and seekable file of a Hadoop file system."""

    def __init__(self, spark: SparkSession, uri: str) -> None:
        filesystem, path = filesystem_of(spark, uri), hadoop_path(spark, uri)
        self._size = filesystem.getFileStatus(path).getLen()
        self._stream = filesystem.open(path)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        self._stream.seek(min(self._position, self._size))
        found = bytes(self._stream.readNBytes(len(buffer)))
        buffer[: len(found)] = found
        self._position += len(found)
        return len(found)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def exists(spark: SparkSession, uri: str) -> bool:
    """Return whether the URI exists."""
    if path := local_path(uri):
        return path.exists()
    with reading(uri):
        return bool(filesystem_of(spark, uri).exists(hadoop_path(spark, uri)))


def read_text(spark: SparkSession, uri: str) -> str:
    """Read a small file's text."""
    return read_head(spark, uri, 2**31 - 1).decode("utf-8")


def write_text(spark: SparkSession, uri: str, text: str) -> None:
    """Write a small file and its parent folders; it appears whole or not at all.

    An existing file is replaced atomically on a local disk; elsewhere it is missing for a moment.
    """
    folder, _, name = uri.rpartition("/")
    partial = f"{folder}/.{name}.{uuid4().hex[:12]}.partial"  # hidden, as a killed process leaves it
    if (path := local_path(uri)) and (whole := local_path(partial)):
        with writing(uri):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                whole.write_text(text, encoding="utf-8")
                whole.replace(path)
            finally:
                whole.unlink(missing_ok=True)
        return
    with writing(uri):
        stream = filesystem_of(spark, uri).create(hadoop_path(spark, partial), True)
        try:
            stream.write(bytearray(text.encode("utf-8")))
        finally:
            stream.close()
    delete(spark, uri)
    rename(spark, partial, uri)


def rename(spark: SparkSession, source: str, target: str) -> None:
    """Rename a file or folder to a name that does not exist yet; atomic on local disks and HDFS.

    Raises:
        WorkError: the name exists, or the file system refuses.

    """
    if exists(spark, target):  # Hadoop would move a folder into an existing one
        raise WorkError(
            f"{target} was created by another process meanwhile. It and {source} are kept: move one of them away"
        )
    local, to = local_path(source), local_path(target)
    with writing(target):
        if local and to and local.is_dir():
            local.rename(to)
            return
        renamed = filesystem_of(spark, source).rename(hadoop_path(spark, source), hadoop_path(spark, target))
    if not renamed:
        raise WorkError(f"{source} cannot be renamed to {target}. Check its permissions")


def delete(spark: SparkSession, uri: str) -> None:
    """Delete a file, or a folder with its content; do nothing if it does not exist."""
    with writing(uri):
        filesystem_of(spark, uri).delete(hadoop_path(spark, uri), True)


def make_folder(spark: SparkSession, uri: str) -> None:
    """Make a folder and its parents."""
    with writing(uri):
        made = filesystem_of(spark, uri).mkdirs(hadoop_path(spark, uri))
    if not made:
        raise WorkError(f"{uri} cannot be created. Check the permissions of the folder above it")


def hadoop_path(spark: SparkSession, uri: str) -> Any:
    """Return a URI as Hadoop's path."""
    jvm: Any = spark._jvm
    return jvm.org.apache.hadoop.fs.Path(uri)


def filesystem_of(spark: SparkSession, uri: str) -> Any:
    """Return Hadoop's file system of a URI."""
    return hadoop_path(spark, uri).getFileSystem(spark._jsc.hadoopConfiguration())
