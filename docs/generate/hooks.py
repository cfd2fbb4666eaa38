"""Hooks of MkDocs: pages get their generated parts, and the navigation the decisions, whenever the site is built."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import decisions
import fill


def on_config(config: Any) -> Any:
    """Add a page for each decision to the navigation, below their index."""
    for section in config.nav:
        for entry in section.get("Explain", []):
            if "Decisions" in entry:
                pages = [{decision.title: f"decisions/{decision.file.name}"} for decision in decisions.read()]
                entry["Decisions"] = [entry["Decisions"], *pages]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the generated parts of a page."""
    return fill.built(markdown)
