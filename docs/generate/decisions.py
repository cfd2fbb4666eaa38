"""The decision records: their titles, dates and status, and the index of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "decisions"
HEAD = re.compile(r"# (\d+)\. (.+)\n\n\*(\w+), (\d{4}-\d\d-\d\d)\.\* (.+?)\n\n", re.DOTALL)


@dataclass(frozen=True)
class Decision:
    """A record: `# NUMBER. TITLE`, then `*Status, date.*` and the decision in one sentence."""

    file: Path
    number: int
    title: str
    status: str
    date: str
    summary: str


def read() -> list[Decision]:
    """Read all records, in their order.

    Raises:
        ValueError: a record does not start as `Decision` has it.

    """
    return [_read(file) for file in sorted(FOLDER.glob("[0-9]*.md"))]


def _read(file: Path) -> Decision:
    found = HEAD.match(file.read_text(encoding="utf-8"))
    if not found:
        raise ValueError(f"{file}: expected `# NUMBER. TITLE`, an empty line, `*Status, YYYY-MM-DD.*` and a sentence")
    number, title, status, date, summary = found.groups()
    return Decision(file, int(number), title, status, date, " ".join(summary.split()))


def index() -> str:
    """Write the table of all records."""
    lines = ["| | decision | date | status |", "| --- | --- | --- | --- |"]
    for each in read():
        lines.append(
            f"| {each.number} | [{each.title}]({each.file.name})<br>{each.summary} | {each.date} | {each.status} |"
        )
    return "\n".join(lines)
