"""Hooks of MkDocs: pages get their generated parts, and the navigation the decisions, whenever the site is built."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "benchmarks", "docs/generate")]

import config_reference  # noqa: E402
import decisions  # noqa: E402
import reference_tables  # noqa: E402
import tables  # noqa: E402

SECTIONS: Mapping[str, Callable[[], str]] = {
    **tables.TABLES,
    **reference_tables.TABLES,
    "config": config_reference.write,
    "decisions": decisions.index,
}


def on_config(config: Any) -> Any:
    """Add a page for each decision to the navigation, below their index."""
    for section in config.nav:
        for entry in section.get("Explain", []) if isinstance(section.get("Explain"), list) else []:
            if "Decisions" in entry:
                pages = [{decision.title: f"decisions/{decision.file.name}"} for decision in decisions.read()]
                entry["Decisions"] = [entry["Decisions"], *pages]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the generated parts of a page."""
    return tables.fill(markdown, SECTIONS)
