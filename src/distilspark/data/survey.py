"""Survey a text file before its rows are read: find its way of quoting, or the reason why it cannot be read.

Like `distilspark.data.records` it works on lines, and Spark pickles it by value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from distilspark.data.records import (
    BACKSLASH,
    DOUBLED,
    SEPARATORS,
    Format,
    Splitter,
    Type,
    UnreadableError,
    decode,
    is_blank,
    parse_object,
    unique_names,
)

SPARK_PART_FILE = re.compile(r"/part-\d{5}-[^/]*$")
BACKSLASHES = re.compile(r'\\([\\"]?)')
EXACT_INTEGERS = 2**53  # a double represents all of them exactly


@dataclass
class Survey:
    """The findings in one file, or in a part of a JSON Lines file."""

    refusal: str | None = None  # ends a sentence that begins with the file's name
    escape: str | None = None  # as in `Format`
    has_breaks: bool = False
    may_be_sparks: bool = False  # every backslash between quotes is part of an escape, as Spark writes it
    header: list[str] = field(default_factory=list)  # TSV and CSV with one: its fields
    kinds: dict[str, list[str]] = field(default_factory=dict)  # JSON Lines: kinds of values of each key

    def to_json(self) -> str:
        """Return the findings as a line of JSON."""
        return json.dumps(asdict(self))


def survey_lines(lines: Iterable[bytes], known: Format) -> Survey:
    """Survey all lines of a file, or a part of a JSON Lines file."""
    if known.kind == "jsonl":
        return Survey(kinds=_kinds_by_key(lines))
    return _survey_quoting(lines, known)


class _Trial:
    """One way of splitting a file, and how well it fits."""

    def __init__(self, known: Format, escape: str | None) -> None:
        self.known, self.splitter = known, Splitter(SEPARATORS[known.kind], escape)
        self.failure: str | None = None
        self.wrong_widths = False
        self.breaks: list[tuple[int, int]] = []  # first and last line of records that span several
        self.quoted = self.needless = self.bare = 0  # number of fields: quoted, needlessly quoted, unquoted texts
        self.escapes = False  # a backslash before a quote was seen
        self.backslashes: set[int] = set()  # lengths between quotes: 1 for a lone backslash, 2 for an escape
        self.before_header, self.header = known.has_header, list[str]()
        self.numeric = set(range(len(known.columns)))  # places of columns with numbers only

    def feed(self, line: str) -> None:
        """Process a line."""
        if self.failure:
            return
        try:
            found = self.splitter.feed(line)
        except UnreadableError as error:
            self.failure = str(error)
            return
        if found and not is_blank(found[1], len(self.known.columns), self.before_header):
            self._note(*found)

    def finish(self) -> None:
        """Process the end of the file."""
        if not self.failure:
            try:
                self.splitter.finish()
            except UnreadableError as error:
                self.failure = str(error)

    def _note(self, fields: list[str | None], raw: str) -> None:
        quoted = self.splitter.quoted
        self.quoted += len(quoted)
        self.needless += sum(not _needs_quotes(text, self.splitter.separator) for text in quoted)
        self.bare += len(list(filter(_is_word, fields))) - len(list(filter(_is_word, quoted)))
        self.escapes = self.escapes or '\\"' in raw
        self.backslashes.update(2 if pair else 1 for text in quoted for pair in BACKSLASHES.findall(text))
        if self.before_header:
            self.before_header, self.header = False, [field or "" for field in fields]
            return
        self.wrong_widths = self.wrong_widths or len(fields) != len(self.known.columns)
        if self.splitter.line > self.splitter.first:
            self.breaks.append((self.splitter.first, self.splitter.line))
        self.numeric = {place for place in self.numeric if place < len(fields) and _is_number(fields[place] or "")}

    @property
    def is_whole(self) -> bool:
        """Return whether every record has as many fields as the header."""
        return not self.failure and not self.wrong_widths


def _needs_quotes(text: str, separator: str) -> bool:
    return not text or any(sign in text for sign in (separator, '"', "\n", "\r"))


def _is_word(text: str | None) -> bool:
    return bool(text) and not _is_number(text or "")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _survey_quoting(lines: Iterable[bytes], known: Format) -> Survey:
    plain, doubled, backslash = (_Trial(known, escape) for escape in (None, DOUBLED, BACKSLASH))
    for line, _ in decode(lines, starts_file=True):
        for trial in (plain, doubled, backslash):
            trial.feed(line)
    for trial in (plain, doubled, backslash):
        trial.finish()
    choose = _choose_quoted if known.escape else _choose_for_tsv
    chosen = choose(plain, doubled, backslash)
    refusal = chosen.failure or _joined_by_stray_quotes(plain, chosen)
    may_be_sparks = backslash.backslashes == {2} and not backslash.failure
    return Survey(refusal, chosen.splitter.escape, bool(chosen.breaks), may_be_sparks, chosen.header)


def _choose_quoted(plain: _Trial, doubled: _Trial, backslash: _Trial) -> _Trial:
    """Read quotes by RFC 4180, or as Spark's writer escapes them if only that fits."""
    fits_better = doubled.failure or (doubled.wrong_widths and not backslash.wrong_widths)
    return backslash if fits_better and not backslash.failure and backslash.escapes else doubled


def _choose_for_tsv(plain: _Trial, doubled: _Trial, backslash: _Trial) -> _Trial:
    """Read quotes as text, as in GLUE's TSV, unless the file was written with quoting.

    A writer with quoting quotes either every text or only the fields that need it; its records are complete.
    """
    for trial in (doubled, backslash):
        signs = trial.quoted and (trial.splitter.escape == DOUBLED or trial.escapes)
        if signs and trial.is_whole:
            by_rule = not trial.breaks and (not trial.needless or not trial.bare)
            if plain.wrong_widths or by_rule:
                return trial
    return plain


def _joined_by_stray_quotes(plain: _Trial, chosen: _Trial) -> str | None:
    """Describe the first record that a stray quote at a field's start joined from several, if any.

    Each of its lines is a record by itself: as wide as the header, with numbers where all other records have them.
    """
    if not chosen.breaks or plain.wrong_widths or not plain.numeric or len(plain.known.columns) < 2:
        return None
    first, last = chosen.breaks[0]
    return f"line {first}: a quote opens there and closes in line {last}, and all lines between look like rows"


def _kinds_by_key(lines: Iterable[bytes]) -> dict[str, list[str]]:
    kinds: dict[str, set[str]] = {}
    for line, _ in decode(lines, starts_file=True):
        for key, value in (parse_object(line) or {}).items():
            kinds.setdefault(key, set()).add(_kind(value))
    return {key: sorted(found) for key, found in kinds.items()}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "long" if abs(value) <= EXACT_INTEGERS else "bigint" if -(2**63) <= value < 2**63 else "json"
    return {str: "string", float: "double", type(None): "null"}.get(type(value), "json")


def type_of(kinds: Iterable[str]) -> Type:
    """Return the type that holds all kinds of a key's values without loss; `json` for mixed and nested ones.

    >>> type_of(["long", "null"]), type_of(["double", "long"]), type_of(["long", "string"]), type_of(["null"])
    ('long', 'double', 'json', 'string')
    """
    found = set(kinds) - {"null"}
    for type_, held in _TYPES.items():
        if found <= held:
            return type_
    return "json"


_TYPES: dict[Type, set[str]] = {
    "string": {"string"},
    "long": {"long", "bigint"},
    "double": {"long", "double"},
    "boolean": {"boolean"},
}


def complete(known: Format, surveys: Iterable[Survey]) -> Format:
    """Complete a JSON Lines format with the keys of all lines, known keys first, and their types."""
    kinds: dict[str, set[str]] = {name: set() for name in known.columns}
    for survey in surveys:
        for key in sorted(survey.kinds):
            kinds.setdefault(key, set()).update(survey.kinds[key])
    return replace(known, columns=tuple(kinds), types=tuple(type_of(found) for found in kinds.values()))


def with_quoting(known: Format, survey: Survey, uri: str) -> Format:
    """Complete a TSV or CSV format with its way of quoting, which also applies to the header.

    If all backslashes come in pairs, both ways of quoting fit, and the file's name decides.
    """
    is_sparks = survey.escape == DOUBLED and survey.may_be_sparks and SPARK_PART_FILE.search(uri)
    escape = BACKSLASH if is_sparks else survey.escape
    columns = unique_names(survey.header) if len(survey.header) == len(known.columns) else known.columns
    renamed = dict(zip(known.columns, columns, strict=True))
    roles = {role: renamed.get(name, name) for role, name in known.roles.items()}
    return replace(known, columns=columns, roles=roles, escape=escape, has_breaks=survey.has_breaks)


def join_surveys(parts: Iterable[str]) -> Survey:
    """Join the surveys of a file's parts, as JSON; only JSON Lines have several."""
    whole = Survey()
    for part in parts:
        found = Survey(**json.loads(part))
        kinds = {key: sorted({*whole.kinds.get(key, []), *values}) for key, values in found.kinds.items()}
        whole = replace(found, kinds=whole.kinds | kinds)
    return whole
