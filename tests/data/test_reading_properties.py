"""Random tables, written in every dialect, are read back unchanged or refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from distilspark.config import TaskConfig
from distilspark.data import read
from distilspark.data.read import find_inputs, read_inputs
from distilspark.data.records import DOUBLED, Splitter, UnreadableError
from distilspark.errors import UserError

UGLY = [
    '"',
    '""',
    "'",
    ",",
    "\t",
    "\\",
    '\\"',
    " ",
    "a",
    "ß",
    "İ",
    "🙂",
    "\u00a0",
    "\u2028",
    "0",
    "1.5",
    "x y",
    "#",
    "\x00",
]
BREAKS = ["\n", "\r\n", "\r"]
NAMES = ["id", "Id", "note", "a.b", "c d", "_row", "_problem", "input", "row", "truth", "prediction", "`", 'q"']
Row = tuple[str | None, ...]


@dataclass(frozen=True)
class Table:
    """Rows with a column `sentence` and others."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def shuffled(self) -> Table:
        """Return the table with its columns reversed."""
        return Table(self.columns[::-1], tuple(row[::-1] for row in self.rows))

    def halves(self) -> list[Table]:
        """Return the first and the second half of the rows."""
        middle = len(self.rows) // 2
        return [Table(self.columns, part) for part in (self.rows[:middle], self.rows[middle:]) if part]


def texts(parts: list[str]) -> st.SearchStrategy[str]:
    """Generate strings that readers often get wrong."""
    return st.lists(st.sampled_from(parts), max_size=6).map("".join)


@st.composite
def tables(draw: st.DrawFn, parts: list[str]) -> Table:
    """Generate tables of up to eight rows, with a sentence in every row."""
    others = draw(st.lists(st.sampled_from(NAMES), max_size=3, unique=True))
    columns = draw(st.permutations(["sentence", *others]))
    sentence = texts(parts).map(lambda text: f"A{text}.")
    cell = {name: sentence if name == "sentence" else texts(parts) for name in columns}
    rows = draw(st.lists(st.tuples(*(cell[name] for name in columns)), min_size=1, max_size=8))
    return Table(tuple(columns), tuple(rows))


def as_csv(
    table: Table, end: str = "\n", separator: str = ",", quoting: int = csv.QUOTE_MINIMAL, header: bool = True
) -> str:
    """Write with Python's csv writer, which quotes a carriage return if a line end contains one."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=quoting)
    lines = []
    for row in [*([table.columns] if header else []), *table.rows]:
        writer.writerow(row)
        lines.append(text.getvalue().removesuffix("\r\n") + end)
        text.seek(text.truncate(0))
    return "".join(lines)


def as_spark_csv(table: Table, separator: str = ",") -> str:
    """Write with the quoting and escaping of Spark's writer."""

    def field(text: str | None) -> str:
        if not text or any(sign in text for sign in (separator, '"', "\n", "\r")) or text[0] == "#":
            return '"{}"'.format((text or "").replace("\\", "\\\\").replace('"', '\\"'))
        return text

    return "".join(separator.join(map(field, row)) + "\n" for row in (table.columns, *table.rows))


def as_json(table: Table, end: str = "\n") -> str:
    """Write one object a line."""
    return "".join(json.dumps(dict(zip(table.columns, row, strict=True))) + end for row in table.rows)


def as_plain_tsv(table: Table) -> str | None:
    """Write without quoting; return None if the table cannot be written that way."""
    cells = [cell or "" for row in (table.columns, *table.rows) for cell in row]
    if any(sign in cell for cell in cells for sign in "\t\n\r"):
        return None
    return "".join("\t".join(cell or "" for cell in row) + "\n" for row in (table.columns, *table.rows))


WRITERS: dict[str, Callable[[Table], str | None]] = {
    "csv": as_csv,
    "csv, Windows": lambda table: as_csv(table, end="\r\n"),
    "csv, all quoted": lambda table: as_csv(table, quoting=csv.QUOTE_ALL),
    "csv, blank first line": lambda table: "\n  \n" + as_csv(table),
    "csv, mixed line ends": lambda table: as_csv(table, end="\r\n") + as_csv(table, header=False),
    "csv by Spark": as_spark_csv,
    "tsv": as_plain_tsv,
    "tsv, quoted": lambda table: as_csv(table, separator="\t"),
    "tsv, all quoted": lambda table: as_csv(table, separator="\t", quoting=csv.QUOTE_ALL),
    "jsonl": as_json,
    "jsonl, Windows": lambda table: as_json(table, end="\r\n"),
    "open quote": lambda table: (
        as_csv(table) + ",".join(['"A'] * len(table.columns)) + "\n" + as_csv(table, header=False)
    ),
}


def write(folder: Path, name: str, table: Table, packed: bool, mark: bool, encoding: str) -> Table | None:
    """Write the table and return the expected rows; None if the dialect cannot represent them."""
    text = WRITERS[name](table)
    if text is None or ("tsv" in name and len(table.columns) == 1):
        return None
    content = (("\ufeff" if mark else "") + text).encode(encoding)
    ending = ".jsonl" if "jsonl" in name else ".tsv" if "tsv" in name else ".csv"
    file = folder / f"{'part-00000-x' if 'Spark' in name else 'rows'}{ending}{'.gz' if packed else ''}"
    file.write_bytes(gzip.compress(content) if packed else content)
    return Table(table.columns, table.rows * 2) if name == "csv, mixed line ends" else table


def counted(table: Table) -> Counter[tuple[tuple[str, str], ...]]:
    """Return the rows regardless of order; null counts as empty, which some dialects cannot distinguish."""
    return Counter(tuple(sorted(zip(table.columns, (cell or "" for cell in row), strict=True))) for row in table.rows)


def rows_of(spark: SparkSession, task: TaskConfig, path: Path) -> Counter[tuple[tuple[str, str], ...]]:
    """Read the rows and check that none has a problem."""
    found = read_inputs(spark, task, find_inputs(spark, task, str(path))).collect()
    good = [row for row in found if row["problem"] is None]
    assert len(good) == len(found), [row["problem"] for row in found]
    for row in good:
        assert row["sentence1"] == row["input"]["sentence"]
    return Counter(tuple(sorted((name, cell or "") for name, cell in row["input"].asDict().items())) for row in good)


@pytest.fixture(params=["by the driver", "by Spark"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of reading lines."""
    if request.param == "by Spark":
        monkeypatch.setattr(read, "LOCAL_BYTES", -1)


PROPERTY = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.slow
@PROPERTY
@given(
    table=tables([*UGLY, *BREAKS]) | tables(UGLY),
    name=st.sampled_from(list(WRITERS)),
    packed=st.booleans(),
    mark=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16", "utf-16-le", "utf-32"]),
)
def test_a_file_comes_back_equal_or_is_refused(
    spark: SparkSession,
    cola: TaskConfig,
    tmp_path: Path,
    reader: None,
    table: Table,
    name: str,
    packed: bool,
    mark: bool,
    encoding: str,
) -> None:
    folder = tmp_path / "rows"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    expected = write(folder, name, table, packed, mark, encoding)
    assume(expected is not None)
    assert expected
    try:
        found = rows_of(spark, cola, folder)
    except UserError:
        assert encoding != "utf-8" or name == "open quote"
        return
    assert found == counted(expected)
    assert name != "open quote"


@pytest.mark.slow
@PROPERTY
@given(
    table=tables(UGLY),
    names=st.tuples(*[st.sampled_from(["csv", "tsv, all quoted", "jsonl", "csv by Spark"])] * 2),
    order=st.booleans(),
    headed=st.booleans(),
)
def test_parts_come_back_equal_or_are_refused(
    spark: SparkSession,
    cola: TaskConfig,
    tmp_path: Path,
    reader: None,
    table: Table,
    names: tuple[str, str],
    order: bool,
    headed: bool,
) -> None:
    """Each part has its own dialect, order of columns and, or not, a header."""
    folder = tmp_path / "parts"
    shutil.rmtree(folder, ignore_errors=True)
    for number, (part, name) in enumerate(zip(table.halves(), names, strict=False)):
        (folder / f"part={number}").mkdir(parents=True)
        part = part.shuffled() if order and number else part
        if number and not headed:
            (folder / "part=1" / "rows.csv").write_text(as_csv(part, header=False), newline="")
        else:
            assume(write(folder / f"part={number}", name, part, False, False, "utf-8"))
    try:
        found = rows_of(spark, cola, folder)
    except UserError:
        assert not headed
        return
    assert sum(found.values()) == len(table.rows)
    without_part = Counter(tuple(cell for cell in row if cell[0] != "part") for row in found.elements())
    assert without_part == counted(table)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(["a", '"', ",", "\n", "\\", " "]), max_size=30).map("".join))
def test_csv_is_split_as_by_python(text: str) -> None:
    try:
        expected = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error:
        expected = None
    assert split(text) == expected


def split(text: str) -> list[list[str]] | None:
    """Return the fields of each record; None if the quoting is broken."""
    splitter, rows = Splitter(",", DOUBLED), []
    try:
        for line in text.removesuffix("\n").split("\n") if text else []:
            if found := splitter.feed(line):
                rows += [[field or "" for field in found[0]]] if found[1] else []
        splitter.finish()
    except UnreadableError:
        return None
    return rows


def test_as_spark_csv_writes_what_spark_writes(spark: SparkSession, tmp_path: Path) -> None:
    rows = (
        ('He said "hi"', "1"),
        ("back\\slash", "2"),
        ('both \\ "', "3"),
        ("ends, \\", "4"),
        ("", "5"),
        ("a\nb", "6"),
    )
    frame = pd.DataFrame(rows, columns=["sentence", "id"])
    spark.createDataFrame(frame).coalesce(1).write.csv(str(tmp_path / "out"), header=True)
    (part,) = (tmp_path / "out").glob("part-*")
    assert part.read_text() == as_spark_csv(Table(("sentence", "id"), rows))
