"""The report on a comparison, in markdown."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pandas as pd

from distilspark.evaluation.findings import Findings
from distilspark.figures import decimal
from distilspark.markdown import write_table

_TITLES = {
    "differences": "What was found",
    "costs": "Quality, speed and size",
    "metrics": "Every metric",
    "curves": "Training",
    "agreement": "Agreement",
    "settings": "Settings that differ",
    "disagreements": "Rows that one gets right and the other wrong",
}


def comparison_summary(findings: Findings, missing: str = "") -> str:
    """Write the sentence, the table, and the pairing."""
    table = findings.table().drop(columns=["p"] if findings.comparisons else ["difference", "p", "p_adjusted", "pairs"])
    notes = " ".join(filter(None, [findings.pairing, missing]))
    return f"**{findings.sentence}**\n\n{markdown_table(table)}\n{notes}\n"


def comparison_report(
    findings: Findings, tables: Mapping[str, pd.DataFrame], figures: Collection[str], missing: str = ""
) -> str:
    """Write the whole comparison, with the figures `NAME.png` beside it."""
    parts = [f"# {findings.topic or 'Comparison'}: {findings.task.title}\n\n{comparison_summary(findings, missing)}"]
    for name, title in _TITLES.items():
        shown = [f"![{title}]({name}.png)\n"] if name in figures else []
        shown += [markdown_table(tables[name])] if name != "differences" and len(tables.get(name, ())) else []
        parts += [f"## {title}\n\n" + "\n".join(shown)] if shown else []
    return "\n".join(parts)


def markdown_table(frame: pd.DataFrame) -> str:
    r"""Write a frame as a table; missing values are empty.

    >>> print(markdown_table(pd.DataFrame({"variant": ["off", "a|b"], "mcc": [0.4551, float("nan")]})), end="")
    | variant | mcc |
    | --- | --- |
    | off | .4551 |
    | a\|b |  |
    """
    return write_table(list(frame.columns), (list(map(_cell, row)) for row in frame.itertuples(index=False)))


def _cell(value: object) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) >= 1 else decimal(value, 4)
    return " ".join(str(value).split()).replace("|", "\\|")
