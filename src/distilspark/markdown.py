"""Tables and lists in markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def write_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table whose cells are markdown already.

    >>> print(write_table(["metric", "dev"], [["mcc", ".4551"]]), end="")
    | metric | dev |
    | --- | --- |
    | mcc | .4551 |
    """
    return "".join(f"| {' | '.join(row)} |\n" for row in [header, ["---"] * len(header), *rows])


def write_list(facts: Mapping[str, str]) -> str:
    """Write a list of names with their values."""
    return "".join(f"- {name}: {value}\n" for name, value in facts.items())
