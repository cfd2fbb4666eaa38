"""Facts in a text: names, numbers and directions, so that a test holds when the sentence around them changes."""

from __future__ import annotations

import re

NUMBER = re.compile(r"(?<![\w.])[+-]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?!\w)")


def plain(text: str) -> str:
    """Return the text in one line, with ASCII minus signs and spaces."""
    return re.sub(r"\s+", " ", text).replace("\N{MINUS SIGN}", "-")


def numbers_in(text: str) -> list[float]:
    """Return the numbers: of `class 2: .31 of 1,043 (95 %)` 2, 0.31, 1043 and 95."""
    return [float(number.replace(",", "")) for number in NUMBER.findall(plain(text))]


def has_name(text: str, name: str) -> bool:
    """Return whether the name is a word of the text."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", plain(text)) is not None


def has_facts(text: str, *facts: str | float) -> bool:
    """Return whether the text has all these names and numbers."""
    numbers = numbers_in(text)
    return all(has_name(text, fact) if isinstance(fact, str) else fact in numbers for fact in facts)


def lines_with(text: str, *facts: str | float) -> list[str]:
    """Return the lines that have all these names and numbers."""
    return [line for line in text.splitlines() if has_facts(line, *facts)]


def higher_of(text: str, one: str, other: str) -> str:
    """Return the name that is said to be higher: the first, unless it is `lower`; an error without one direction."""
    words = [re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in (one, other)]
    first, second = (one, other) if words[0].start() < words[1].start() else (other, one)  # type: ignore[union-attr]
    (direction,) = re.findall(r"\b(higher|lower)\b", text)
    return first if direction == "higher" else second
