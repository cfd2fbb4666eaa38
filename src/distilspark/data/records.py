"""Split the lines of text files into records: plain text, TSV, CSV and JSON Lines.

The functions take iterables of lines (bytes without their line feed), so that the driver and Spark's workers run the
same code. Spark pickles this module by value, so it imports nothing from the project.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, Literal, NamedTuple

import pyarrow  # type: ignore[import-untyped]

Kind = Literal["text", "tsv", "csv", "jsonl", "parquet"]
Type = Literal["string", "long", "double", "boolean", "json"]
SEPARATORS = {"tsv": "\t", "csv": ","}
DOUBLED, BACKSLASH = '"', "\\"  # how a quote within quotes is escaped: doubled (RFC 4180), or by a backslash (Spark)
BYTE_ORDER_MARK = "\ufeff"
REPLACEMENT = "\ufffd"
CANONICAL = ("id", "sentence1", "sentence2", "label", "source")
RAW_CHARACTERS = 200  # of a record's text, kept for messages
ROWS_PER_BATCH = 1000  # of Arrow
BYTES_PER_BATCH = 1 << 24
SURROGATES = re.compile("[\ud800-\udfff]")
STRAY_RETURN = "has a carriage return that ends no line"


@dataclass(frozen=True)
class Format:
    """A file's content and the way to read it."""

    kind: Kind
    gzipped: bool
    has_header: bool  # TSV and CSV
    columns: tuple[str, ...]  # the file's own names, in order; the canonical ones if it has none
    roles: dict[str, str]  # canonical column -> the file's column, or a folder's key
    keys: tuple[str, ...] = ()  # of the `key=value` folders that the file is in, which are columns too
    escape: str | None = None  # TSV and CSV: DOUBLED, BACKSLASH or None for a file without quoting
    has_breaks: bool = False  # TSV and CSV: a record may span several lines
    types: tuple[str, ...] = ()  # of the columns; JSON Lines: each a `Type`, parquet: Arrow's name of it

    @property
    def texts(self) -> dict[str, str]:
        """The file's text columns and their canonical names."""
        return {name: role for role, name in self.roles.items() if role in ("sentence1", "sentence2")}


class Record(NamedTuple):
    """A record as its file has it."""

    values: Sequence[Any]  # one for each of the format's columns
    canonical: dict[str, str | None]  # the text of each of the format's roles
    raw: str
    problem: str | None  # the reason why it cannot be read; null for a good one


class UnreadableError(ValueError):
    """A file that cannot be split into records; the message ends a sentence that begins with the file's name."""


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names as column names: an empty or repeated one becomes `column_N`, N its place from 1."""
    unique: list[str] = []
    for place, name in enumerate(names, start=1):
        unique.append(f"column_{place}" if not name or name in unique else name)
    return tuple(unique)


class Splitter:
    """A strict splitter of one file's lines into fields; `escape` as in `Format`.

    Within quotes, separators and line breaks are text. A field that begins with a quote ends with one.
    """

    def __init__(self, separator: str, escape: str | None) -> None:
        self.separator, self.escape = separator, escape
        self.line = 0  # the last one fed, from 1
        self.first = 0  # first line of the last complete record, or of the open one
        self.quoted: list[str] = []  # texts between quotes in the last complete record
        content = r'((?:[^"\\]++|\\.|\\$)*+)"' if escape == BACKSLASH else r'((?:[^"]++|"")*+)"'
        self._close = re.compile(content)
        self._fields: list[str | None] = []
        self._raw: list[str] = []
        self._open: list[str] | None = None  # the lines of an unfinished quoted field

    def feed(self, line: str) -> tuple[list[str | None], str] | None:
        """Process a line; return the fields and text of the record that it completes, if any.

        An empty field is None in a file with quoting and "" in one without.

        Raises:
            UnreadableError: the line breaks the rules of quoting, or has a stray carriage return.

        """
        self.line += 1
        if self._open is None:
            self.first, self.quoted = self.line, []
            if self.escape is None or '"' not in line:
                return self._split(line)
        self._raw.append(line)
        position = 0
        while True:
            if self._open is None and not line.startswith('"', position):
                end = line.find(self.separator, position)
                self._fields.append(self._bare(line[position : end if end >= 0 else None], is_last=end < 0) or None)
                if end < 0:
                    return self._complete()
                position = end + 1
                continue
            if self._open is None:
                self._open, position = [], position + 1
            match = self._close.match(line, position)
            if not match:
                self._open.append(line[position:])
                return None
            self._quoted_field(match[1])
            position = match.end()
            if line[position:] in ("", "\r"):
                return self._complete()
            if line[position] != self.separator:
                raise UnreadableError(
                    f"line {self.line}: a quote that ends a field is followed by {line[position]!r}. Write a quote "
                    "within quotes twice"
                )
            position += 1

    def finish(self) -> None:
        """Raise `UnreadableError` if a quote is still open."""
        if self._open is not None:
            raise UnreadableError(f"line {self.first}: a quote is opened and never closed")

    def _split(self, line: str) -> tuple[list[str | None], str]:
        bare = self._bare(line, is_last=True)
        empty = None if self.escape else ""
        return [field or empty for field in bare.split(self.separator)], bare

    def _bare(self, text: str, is_last: bool) -> str:
        text = text.removesuffix("\r") if is_last else text
        if self.escape and "\r" in text:
            raise UnreadableError(f"line {self.line} {STRAY_RETURN}: two kinds of line ends in one file")
        return text

    def _quoted_field(self, end: str) -> None:
        text = "\n".join([*(self._open or []), end])
        self._open = None
        self.quoted.append(text)
        plain = re.sub(r'\\(["\\])', r"\1", text) if self.escape == BACKSLASH else text.replace('""', '"')
        self._fields.append(plain)

    def _complete(self) -> tuple[list[str | None], str]:
        fields, raw = self._fields, "\n".join(self._raw).removesuffix("\r")
        self._fields, self._raw = [], []
        return fields, raw


def decode(lines: Iterable[bytes], starts_file: bool) -> Iterator[tuple[str, bool]]:
    """Decode lines; yield each with whether it is UTF-8. A byte order mark at the file's start is removed."""
    for line in lines:
        try:
            text, valid = line.decode(), True
        except UnicodeDecodeError:
            text, valid = line.decode(errors="replace"), False
        if starts_file:
            text, starts_file = text.removeprefix(BYTE_ORDER_MARK), False
        yield text, valid


def read_records(lines: Iterable[bytes], known: Format, starts_file: bool) -> Iterator[Record]:
    """Read the records of a file's lines, or of a block of them that does not start the file."""
    readers: dict[str, Callable[[Iterator[tuple[str, bool]], Format, bool], Iterator[Record]]] = {
        "text": _plain_records,
        "tsv": _delimited_records,
        "csv": _delimited_records,
        "jsonl": _json_records,
    }
    return readers[known.kind](decode(lines, starts_file), known, starts_file)


def _plain_records(lines: Iterator[tuple[str, bool]], known: Format, starts_file: bool) -> Iterator[Record]:
    """Yield a record for each line, also for blank ones, so that lines can be counted."""
    for line, _ in lines:
        text = line.removesuffix("\r")
        yield Record([text], {"sentence1": text}, text, STRAY_RETURN if "\r" in text else None)


def _delimited_records(lines: Iterator[tuple[str, bool]], known: Format, starts_file: bool) -> Iterator[Record]:
    splitter, width = Splitter(SEPARATORS[known.kind], known.escape), len(known.columns)
    places = {role: known.columns.index(name) for role, name in known.roles.items() if name in known.columns}
    header: list[str | None] | None = None
    before_header, all_valid = known.has_header and starts_file, True
    for line, valid in lines:
        found, all_valid = splitter.feed(line), all_valid and valid
        if found is None:
            continue
        fields, raw = found
        if is_blank(raw, width, before_header):
            continue
        if before_header:
            header, before_header = fields, False
        else:
            values = _fit(fields, width)
            canonical = {role: values[place] for role, place in places.items()}
            yield Record(values, canonical, raw, _delimited_problem(fields, raw, header, known, all_valid))
        all_valid = True
    splitter.finish()


def is_blank(raw: str, width: int, before_header: bool) -> bool:
    """Return whether a line holds no record. In a file with one column, white space is a record."""
    if before_header:
        return not raw.strip()
    return not (raw.strip(" ") if width > 1 else raw)


def _fit(fields: list[str | None], width: int) -> list[str | None]:
    return fields if len(fields) == width else [*fields, *[None] * width][:width]


def _delimited_problem(
    fields: list[str | None], raw: str, header: list[str | None] | None, known: Format, valid: bool
) -> str | None:
    if len(fields) != len(known.columns):
        return f"{len(fields)} columns instead of {len(known.columns)}"
    if fields == header and len(fields) > 1:
        return "the header once more"
    if known.escape is None and "\r" in raw:
        return STRAY_RETURN
    return None if valid else _undecoded(dict(zip(known.columns, fields, strict=True)), known)


def _undecoded(values: dict[str, Any], known: Format) -> str | None:
    """Name a column that is not UTF-8, except text columns, which have their own rule."""
    broken = [name for name, value in values.items() if isinstance(value, str) and REPLACEMENT in value]
    return next((f"{name} is not valid UTF-8" for name in broken if name not in known.texts), None)


def _json_records(lines: Iterator[tuple[str, bool]], known: Format, starts_file: bool) -> Iterator[Record]:
    for line, valid in lines:
        if not line.strip():
            continue
        raw = line.removesuffix("\r")
        found = parse_object(raw)
        if found is None:
            yield Record([None] * len(known.columns), {}, raw, "not a JSON object")
            continue
        if "\\u" in raw:
            found, valid = _without_surrogates(found, valid)
        values = [_json_value(found.get(name), kind) for name, kind in zip(known.columns, known.types, strict=True)]
        canonical = {role: _as_text(found.get(name)) for role, name in known.roles.items()}
        yield Record(values, canonical, raw, _wrong_type(found, known) or (None if valid else _undecoded(found, known)))


def _without_surrogates(found: dict[str, Any], valid: bool) -> tuple[dict[str, Any], bool]:
    """Replace lone surrogates, which UTF-8 does not have, in an object's strings."""
    text = json.dumps(found, ensure_ascii=False)
    clean = SURROGATES.sub(REPLACEMENT, text)
    return (found, valid) if clean == text else (json.loads(clean), False)


def _wrong_type(found: dict[str, Any], known: Format) -> str | None:
    """Name the first text column whose value is a number, boolean, list or object, which are not read as text."""
    wrong = {role: found[name] for name, role in known.texts.items() if not isinstance(found.get(name), str | None)}
    return next((f"{role} is not text but {_noun(wrong[role])}" for role in sorted(wrong)), None)


def parse_object(line: str) -> dict[str, Any] | None:
    """Parse a line of JSON Lines; None if it is no JSON object."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _json_value(value: Any, kind: str) -> Any:
    if kind == "json" and value is not None:
        try:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)
        except ValueError:  # NaN and Infinity are not JSON
            return json.dumps(json.dumps(value, ensure_ascii=False))
    return float(value) if kind == "double" and value is not None else value


def _as_text(value: Any) -> str | None:
    return value if isinstance(value, str | None) else json.dumps(value, ensure_ascii=False)


def _noun(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else "a number"


def split_by_file(
    batches: Iterable[pyarrow.RecordBatch], by_block: bool
) -> Iterator[tuple[str, bool, Iterator[bytes]]]:
    """Split batches of `file`, `start` and `value` (lines) by file, or by the blocks that Spark reads.

    Yields:
        the file's URI, whether the lines start the file, the lines.

    """

    def rows() -> Iterator[tuple[str, int, bytes]]:
        for batch in batches:
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    for (file, start), part in groupby(rows(), key=lambda row: row[:2] if by_block else (row[0], 0)):
        yield file, start == 0, (row[2] for row in part)


def arrow_schema(known: Format) -> pyarrow.Schema:
    """Return the schema of `to_batches`."""
    types = map(_ARROW_TYPES.__getitem__, known.types or ["string"] * len(known.columns))
    fields = list(zip(known.columns, types, strict=True))
    keys = [(name, pyarrow.string()) for name in known.keys]
    texts = [(name, pyarrow.string()) for name in (*CANONICAL, "raw", "problem")]
    return pyarrow.schema([("input", pyarrow.struct([*fields, *keys])), *texts])


_ARROW_TYPES: dict[str, Any] = {
    "string": pyarrow.string(),
    "long": pyarrow.int64(),
    "double": pyarrow.float64(),
    "boolean": pyarrow.bool_(),
    "json": pyarrow.string(),
}


def to_batches(records: Iterable[Record], known: Format, keys: dict[str, str | None]) -> Iterator[pyarrow.RecordBatch]:
    """Convert records to Arrow batches, with the columns from their file's folders.

    Columns: `input`, a struct of the own columns; the canonical ones, as strings; `raw`, shortened; `problem`.
    """
    schema, added = arrow_schema(known), [keys.get(name) for name in known.keys]
    from_folders = {role: keys.get(name) for role, name in known.roles.items() if name in known.keys}
    records = iter(records)
    while rows := _take_batch(records):
        own = zip(*([*record.values, *added] for record in rows), strict=True)
        struct = schema.field("input").type
        fields = [pyarrow.array(values, field.type) for values, field in zip(own, struct, strict=True)]
        canonical = [
            pyarrow.array([record.canonical.get(name, from_folders.get(name)) for record in rows], pyarrow.string())
            for name in CANONICAL
        ]
        raw = pyarrow.array([record.raw[:RAW_CHARACTERS] for record in rows], pyarrow.string())
        problems = pyarrow.array([record.problem for record in rows], pyarrow.string())
        own_columns = pyarrow.StructArray.from_arrays(fields, fields=list(struct))
        yield pyarrow.RecordBatch.from_arrays([own_columns, *canonical, raw, problems], schema=schema)


def _take_batch(records: Iterator[Record]) -> list[Record]:
    """Take as many records as fit into a batch; long ones make small batches."""
    rows: list[Record] = []
    size = 0
    for record in islice(records, ROWS_PER_BATCH):
        rows.append(record)
        size += len(record.raw)
        if size > BYTES_PER_BATCH:
            break
    return rows
