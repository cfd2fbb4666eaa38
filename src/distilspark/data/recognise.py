"""Recognise a file's format by its content: TSV, CSV, JSON Lines, parquet or plain text, gzipped or not."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow  # type: ignore[import-untyped]
from pyspark.sql import SparkSession

from distilspark.config import TaskConfig
from distilspark.data.filesystem import read_head, reading
from distilspark.data.input_files import InputFile
from distilspark.data.parquet import read_schema
from distilspark.data.records import (
    BYTE_ORDER_MARK,
    DOUBLED,
    SEPARATORS,
    Format,
    Kind,
    Splitter,
    UnreadableError,
    unique_names,
)
from distilspark.data.text_rules import CONTROLS, REPLACEMENT
from distilspark.errors import UserError

HEAD_BYTES = 1 << 16
MAX_HEAD_BYTES = 1 << 26  # at most, to read a long first line
FIRST_ROWS = 50
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
PLAIN_ENDINGS = (".txt", ".text", ".txt.gz", ".text.gz")
# longest first: UTF-32's mark begins with UTF-16's
BYTE_ORDER_MARKS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


class EmptyFileError(UserError):
    """A file without a single character."""


@dataclass(frozen=True)
class _Head:
    """The beginning of a text file, split in one way."""

    kind: Kind
    rows: list[list[str]]  # the first row may be a header
    escape: str | None = None  # as in `Format`; None for TSV, whose quotes may be text

    def as_format(
        self, gzipped: bool, has_header: bool, columns: tuple[str, ...], roles: dict[str, str], keys: tuple[str, ...]
    ) -> Format:
        """Return the format of a file with this beginning."""
        return Format(self.kind, gzipped, has_header, columns, roles, keys, self.escape)


def recognise(
    spark: SparkSession, task: TaskConfig, file: InputFile, require_label: bool, plain_text: bool = False
) -> Format:
    """Recognise a file from its first bytes; with `plain_text`, a `.txt` file has one text a line if nothing else fits.

    Raises:
        UserError: it cannot be read, is empty, or is not this task's data; the message names the file, what was seen
            and what was expected.

    """
    head, gzipped, is_whole = _read_beginning(spark, file.uri)
    if not head:
        raise EmptyFileError(f"{file.uri} is empty. Expected {_expected(task, require_label)}")
    if head.startswith(PARQUET):
        return _recognise_parquet(spark, task, file, gzipped, require_label)
    if gzipped != file.uri.endswith(".gz"):
        seen = "gzip, without the ending" if gzipped else "no gzip, with the ending"
        raise UserError(f"{file.uri} is {seen} .gz, by which Spark goes. Rename it")
    _check_encoding(task, file.uri, head, require_label)
    lines = _lines(head, is_whole)
    if not lines:
        raise EmptyFileError(f"{file.uri} is empty. Expected {_expected(task, require_label)}")
    if found := _recognise_text(task, file, lines, gzipped, require_label):
        return found
    if plain_text and not task.is_pair and file.uri.lower().endswith(PLAIN_ENDINGS):
        roles = _with_keys({"sentence1": "sentence1"}, task, file)
        return Format("text", gzipped, False, ("sentence1",), roles, _new_keys(file, ("sentence1",)))
    raise _unrecognised(task, file.uri, _describe(lines, head.decode(errors="replace")), require_label)


def _read_beginning(spark: SparkSession, uri: str) -> tuple[bytes, bool, bool]:
    """Return a file's first bytes, unpacked, with its first line whole; whether it is gzip; whether that is all."""
    size = HEAD_BYTES
    while True:
        raw = read_head(spark, uri, size)
        gzipped = raw.startswith(GZIP)
        head = _gunzip(raw, size) if gzipped else raw
        is_whole = len(raw) < size and len(head) < size
        if is_whole or b"\n" in head or head.startswith(PARQUET) or size >= MAX_HEAD_BYTES:
            return head, gzipped, is_whole
        size *= 8


def _gunzip(raw: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(raw, size)
    except zlib.error:
        return b"\0\1"


def _check_encoding(task: TaskConfig, uri: str, head: bytes, require_label: bool) -> None:
    """Raise `UserError` if the file is UTF-16 or UTF-32, with or without a byte order mark, or binary."""
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if head.startswith(mark)), None) or _unmarked(head)
    if encoding:
        raise UserError(
            f"{uri} is {encoding}, and text is read as UTF-8. Convert it first: "
            f"iconv -f {encoding} -t UTF-8 {uri.removeprefix('file:')} > FILE"
        )
    sample = head[:8192].decode(errors="replace")
    if 3 * (len(CONTROLS.findall(sample)) + sample.count(REPLACEMENT)) > len(sample):
        raise _unrecognised(task, uri, f"binary content, first bytes {head[:8].hex(' ')}", require_label)
    if b"\r" in head and b"\n" not in head and head.index(b"\r") < len(head) - 1:
        raise UserError(
            f"{uri} has line ends of the old Macintosh (only carriage returns). Convert it first: tr '\\r' '\\n'"
        )


def _unmarked(head: bytes) -> str | None:
    """Detect UTF-16 or UTF-32 by zero bytes, which most of their characters have in the same place."""
    sample = head[:4096]
    sample = sample[: len(sample) // 4 * 4]
    zeros = [sample[place::4].count(0) / max(1, len(sample) // 4) for place in range(4)]
    if sorted(zeros)[2] < 0.7:
        return None
    return ("UTF-32" if sorted(zeros)[1] > 0.7 else "UTF-16") + ("LE" if zeros[0] < zeros[3] else "BE")


def _recognise_parquet(
    spark: SparkSession, task: TaskConfig, file: InputFile, gzipped: bool, require_label: bool
) -> Format:
    with reading(file.uri):
        schema = read_schema(spark, file.uri, gzipped)
    roles = _with_keys(_roles(schema.names, task), task, file)
    if not _is_complete(roles, task, require_label):
        raise _unrecognised(task, file.uri, f"parquet with the columns {', '.join(schema.names)}", require_label)
    for text in task.text_columns:
        if roles[text] in schema.names and not _is_text(dtype := schema.field(roles[text]).type):
            raise _unrecognised(task, file.uri, f"parquet whose {roles[text]} is {dtype}", require_label)
    types = tuple(map(str, schema.types))
    return Format("parquet", gzipped, False, tuple(schema.names), roles, _new_keys(file, schema.names), types=types)


def _is_text(dtype: pyarrow.DataType) -> bool:
    dtype = dtype.value_type if pyarrow.types.is_dictionary(dtype) else dtype
    types = pyarrow.types
    return types.is_string(dtype) or types.is_large_string(dtype) or types.is_string_view(dtype)


def _lines(head: bytes, is_whole: bool) -> list[str]:
    """Return the whole lines that are not blank."""
    lines = head.decode(errors="replace").removeprefix(BYTE_ORDER_MARK).split("\n")
    whole = lines if is_whole or len(lines) == 1 else lines[:-1]
    return [line.removesuffix("\r") for line in whole if line.strip()]


def _recognise_text(
    task: TaskConfig, file: InputFile, lines: list[str], gzipped: bool, require_label: bool
) -> Format | None:
    if lines[0].lstrip().startswith("{"):
        return _recognise_json(task, file, lines, gzipped, require_label)
    for head in _heads(lines):
        roles = _with_keys(_roles(head.rows[0], task), task, file)
        if _is_complete(roles, task, require_label):
            _check_unambiguous(head.rows[0], roles, file)
            columns = unique_names(head.rows[0])
            return head.as_format(gzipped, True, columns, roles, _new_keys(file, columns))
    for head in _heads(lines):
        for layout in task.headerless:
            if _fits(head.rows, layout, task):
                columns = unique_names("" if name == "-" else name for name in layout)
                roles = _with_keys({name: name for name in layout if name != "-"}, task, file)
                return head.as_format(gzipped, False, columns, roles, _new_keys(file, columns))
    return None


def _check_unambiguous(header: list[str], roles: dict[str, str], file: InputFile) -> None:
    """Raise `UserError` if a column that the task reads stands in the header more than once."""
    for name in sorted(set(roles.values())):
        if header.count(name) > 1:
            raise UserError(f"{file.uri} has {header.count(name)} columns {name}. Rename those that should not be read")


def _heads(lines: list[str]) -> Iterable[_Head]:
    """Split the first lines in every possible way, the most likely first."""
    if "\t" in lines[0]:
        yield _Head("tsv", [line.split("\t") for line in lines[:FIRST_ROWS]])
        if lines[0].startswith('"'):
            yield _Head("tsv", _split(lines, "tsv"), DOUBLED)
    yield _Head("csv", _split(lines, "csv"), DOUBLED)


def _split(lines: list[str], kind: Kind) -> list[list[str]]:
    """Split by the rules of quoting; stop at a line that breaks them, or at a record without an end."""
    splitter, rows = Splitter(SEPARATORS[kind], DOUBLED), []
    for line in lines:
        try:
            found = splitter.feed(line)
        except UnreadableError:
            break
        if found:
            rows.append([field or "" for field in found[0]])
        if len(rows) == FIRST_ROWS:
            break
    return rows or [lines[0].split(SEPARATORS[kind])]


def _recognise_json(
    task: TaskConfig, file: InputFile, lines: list[str], gzipped: bool, require_label: bool
) -> Format | None:
    """Recognise JSON Lines; the columns are the keys, in the order in which they first appear."""
    keys: dict[str, None] = {}
    for line in lines:
        try:
            keys.update(dict.fromkeys(json.loads(line)))
        except (ValueError, TypeError, RecursionError):
            continue
    columns = tuple(keys)
    roles = _with_keys(_roles(columns, task), task, file)
    if not _is_complete(roles, task, require_label):
        return None
    return Format("jsonl", gzipped, False, columns, roles, keys=_new_keys(file, columns))


def _roles(names: Iterable[str], task: TaskConfig) -> dict[str, str]:
    present = set(names)
    found = {
        canonical: next((alias for alias in aliases if alias in present), None)
        for canonical, aliases in task.columns.items()
    }
    return {canonical: name for canonical, name in found.items() if name is not None}


def _with_keys(roles: dict[str, str], task: TaskConfig, file: InputFile) -> dict[str, str]:
    """Let keys of `key=value` folders fill the roles that no column fills."""
    return _roles(file.keys, task) | roles


def _new_keys(file: InputFile, columns: Iterable[str]) -> tuple[str, ...]:
    """Return the folders' keys that are no columns of the file itself."""
    return tuple(key for key in file.keys if key not in set(columns))


def _is_complete(roles: dict[str, str], task: TaskConfig, require_label: bool) -> bool:
    return set(roles) >= {*task.text_columns, *(["label"] if require_label else [])}


def _fits(rows: list[list[str]], layout: list[str], task: TaskConfig) -> bool:
    """Return whether most rows have the layout's width and a possible label in the label's place."""
    wide = [row for row in rows if len(row) == len(layout)]
    labelled = [row for row in wide if _is_like_label(row[layout.index("label")], task)]
    return 2 * len(wide) > len(rows) and 2 * len(labelled) > len(wide)


def _is_like_label(text: str, task: TaskConfig) -> bool:
    try:
        float(text)
    except ValueError:
        return text in task.labels
    return True


def _unrecognised(task: TaskConfig, file: str, seen: str, require_label: bool) -> UserError:
    return UserError(
        f"{file} is not recognised as task={task.name}. Seen: {seen}. Expected {_expected(task, require_label)}"
    )


def _describe(lines: list[str], head: str) -> str:
    """Describe a text file that has the wrong columns, with a hint if it is JSON but not JSON Lines."""
    if head.lstrip().startswith("["):
        return "a JSON array, where JSON Lines has an object a line. Convert it: jq -c '.[]' FILE > FILE.jsonl"
    if lines[0].lstrip().startswith("{") and not lines[0].rstrip().endswith("}"):
        return "JSON over several lines, where JSON Lines has an object a line. Convert it: jq -c . FILE > FILE.jsonl"
    first = lines[0] if len(lines[0]) <= 120 else f"{lines[0][:119]}…"
    separator, kind = ("tab", "tsv") if "\t" in lines[0] else ("comma", "csv")
    width = lines[0].count("\t") + 1 if kind == "tsv" else len(_split(lines, "csv")[0])
    return f"{width} {separator}-separated column(s), first line {first!r}"


def _expected(task: TaskConfig, require_label: bool) -> str:
    needed = [*task.text_columns, *(["label"] if require_label else [])]
    header = ", ".join(" or ".join(task.columns[name]) for name in needed)
    layouts = [f"or without a header {len(layout)} columns ({', '.join(layout)})" for layout in task.headerless]
    return " ".join([f"TSV, CSV, JSON Lines or parquet with the columns {header};", *layouts]).rstrip(";")
