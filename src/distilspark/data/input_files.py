"""Find the files that a path stands for, each once, or raise an error that names the path."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from pyspark.sql import SparkSession

from distilspark.data.filesystem import (
    exists,
    filesystem_of,
    hadoop_path,
    list_folder,
    local_path,
    name_of,
    reading,
    to_uri,
)
from distilspark.errors import UserError

HIDDEN_PREFIXES = (".", "_")
GLOB = "*?[{"
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
TABLES = {"_delta_log": "a Delta table", ".hoodie": "a Hudi table"}
ICEBERG = "an Iceberg table"
WEB_SCHEMES = ("http:/", "https:/", "ftp:/")


@dataclass(frozen=True)
class InputFile:
    """A file, with its size and time when it was listed."""

    uri: str
    size: int  # bytes
    modified: int  # milliseconds since 1970
    base: str = ""  # the folder below which `key=value` folders are columns

    @property
    def keys(self) -> dict[str, str | None]:
        """The columns that the file's folders give, as Spark's `partitionBy` and Hive write them."""
        return folder_keys(self.uri, self.base)


def folder_keys(uri: str, base: str) -> dict[str, str | None]:
    """Return the columns that the `key=value` folders between a base folder and a file give.

    >>> folder_keys("file:/data/day=2024-01-01/lang=a%2Fb/rows.csv", "file:/data")
    {'day': '2024-01-01', 'lang': 'a/b'}
    """
    if not base or not uri.startswith(base.rstrip("/") + "/"):
        return {}
    folders = uri[len(base.rstrip("/")) + 1 :].split("/")[:-1]
    pairs = (folder.split("=", 1) for folder in folders if "=" in folder.lstrip("="))
    return {unquote(key): None if value == HIVE_NULL else unquote(value) for key, value in pairs}


def find_files(spark: SparkSession, path: str) -> list[InputFile]:
    """Return the files of a file, a folder (recursively) or a glob, sorted, without hidden ones.

    A file is listed once, however many links lead to it.

    Raises:
        UserError: the path does not exist or is no file of rows: a pipe, a device, a broken link, or a table format
            with a transaction log (Delta, Iceberg, Hudi).

    """
    uri = to_uri(path)
    if uri.lower().startswith(WEB_SCHEMES):
        raise UserError(f"{uri} is an address, not a file that Spark reads. Download it first")
    with reading(uri):
        roots, base = _roots(spark, uri)
    if not roots:
        raise UserError(f"{uri} does not exist. Give a file, a folder, or a glob that matches some")
    files: dict[str, InputFile] = {}
    for root in roots:
        refuse_table(spark, root.rpartition("/")[0])
        with reading(root):
            listed = _local_files(root, base) if local_path(root) else _hadoop_files(spark, root, base)
            for identity, file in listed:
                files.setdefault(identity, file)
    if not files:
        raise UserError(f"{uri} holds no data files. Give a file, a folder that holds some, or a glob")
    return sorted(files.values(), key=lambda file: file.uri)


def _roots(spark: SparkSession, uri: str) -> tuple[list[str], str]:
    """Return the path itself if it exists, else the matches of its glob; and the base folder."""
    path = local_path(uri)
    if os.path.lexists(path) if path else exists(spark, uri):
        return [uri.rstrip("/") or uri], uri
    # null, not an empty array, for a path without a pattern
    statuses = filesystem_of(spark, uri).globStatus(hadoop_path(spark, uri)) or []
    found = [status.getPath().toString() for status in statuses]
    fixed = uri[: min((uri.index(sign) for sign in GLOB if sign in uri), default=len(uri))]
    return found, fixed.rpartition("/")[0]


def _local_files(root: str, base: str) -> Iterator[tuple[str, InputFile]]:
    """Walk a local folder, following links; yield each file with its identity."""
    path = local_path(root)
    assert path
    yield from _walk(path, base, {}, is_root=True)


def _walk(path: Path, base: str, seen: dict[str, None], is_root: bool = False) -> Iterator[tuple[str, InputFile]]:
    if not path.exists():
        raise UserError(f"file:{path} is a link to {path.readlink()}, which does not exist. Correct or delete the link")
    real, status = os.path.realpath(path), path.stat()
    if not stat.S_ISDIR(status.st_mode):
        if not stat.S_ISREG(status.st_mode) or real.startswith(("/dev/", "/proc/")):
            raise UserError(f"file:{path} is {_special(status.st_mode)}, not a file. Write its content to a file first")
        identity = _identity(status) if status.st_nlink > 1 else real
        yield identity, InputFile(f"file:{path}", status.st_size, status.st_mtime_ns // 1_000_000, base)
        return
    if real in seen:  # a loop, or a folder with two links
        return
    seen[real] = None
    names = sorted(entry.name for entry in path.iterdir())
    metadata = path / "metadata"
    _refuse(f"file:{path}", _table_of(names, [entry.name for entry in metadata.glob("*")]))
    for name in names:
        if not name.startswith(HIDDEN_PREFIXES):
            yield from _walk(path / name, base, seen)


def linked_identity(file: InputFile) -> str | None:
    """Return the identity of a local file that is linked below its base folder; None for a file with a single path."""
    path, base = local_path(file.uri), local_path(file.base)
    if path is None or base is None or not path.exists():
        return None
    status, real = path.stat(), os.path.realpath(path)
    if status.st_nlink > 1:
        return _identity(status)
    return real if real != os.path.join(os.path.realpath(base), path.relative_to(base)) else None  # noqa: PTH118


def _identity(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}"


def _special(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _hadoop_files(spark: SparkSession, root: str, base: str) -> Iterator[tuple[str, InputFile]]:
    start = len(hadoop_path(spark, root).toUri().getPath().rstrip("/"))
    listed = filesystem_of(spark, root).listFiles(hadoop_path(spark, root), True)
    while listed.hasNext():
        status = listed.next()
        uri = status.getPath().toString()
        below = status.getPath().toUri().getPath()[start:].strip("/").split("/")
        _refuse(root, _table_of(below[:-1], below[-1:] if below[-2:-1] == ["metadata"] else []))
        if not any(part.startswith(HIDDEN_PREFIXES) for part in below):
            yield uri, InputFile(uri, status.getLen(), status.getModificationTime(), base)


def _refuse(folder: str, table: str | None) -> None:
    """Raise `UserError` for a folder whose log determines which of its files are valid."""
    if table:
        raise UserError(
            f"{folder} is {table}, some of whose files may have been replaced or deleted. Read it with its own reader, "
            "and write its rows to a folder of parquet files"
        )


def _table_of(names: Iterable[str], metadata: Iterable[str]) -> str | None:
    """Name the kind of table by the names in its folder, and those in the folder `metadata`."""
    known = next((TABLES[name] for name in names if name in TABLES), None)
    return known or (ICEBERG if any(name.endswith(".metadata.json") for name in metadata) else None)


def refuse_table(spark: SparkSession, folder: str) -> None:
    """Raise `UserError` if a folder is a table with a transaction log, or a part of one."""
    folder = folder.rstrip("/")
    while folder.count("/") > 1:
        names = [name for name in TABLES if exists(spark, f"{folder}/{name}")]
        metadata = list_folder(spark, f"{folder}/metadata") if exists(spark, f"{folder}/metadata") else []
        _refuse(folder, _table_of(names, [name_of(uri) for uri, _ in metadata]))
        name = name_of(folder)
        if "=" not in name and name != "data":
            return
        folder = folder.rpartition("/")[0]
