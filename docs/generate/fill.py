"""Fill the generated parts of the README and of the documentation's pages: tables of benchmarks, commands and so on.

`python docs/generate/fill.py` writes all but two of them into the files, so that they can be read without the site;
`tests/test_docs.py` refuses a stale one. The reference of config keys and the notebook are filled in the site alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("src", "benchmarks", "docs/generate")]

import config_reference  # noqa: E402
import decisions  # noqa: E402
import notebook  # noqa: E402
import reference_tables  # noqa: E402
import tables  # noqa: E402

WRITTEN: Mapping[str, Callable[[], str]] = {
    **tables.TABLES,
    **reference_tables.TABLES,
    "decisions": decisions.index,
}
BUILT: Mapping[str, Callable[[], str]] = {"config": config_reference.write, "quickstart": notebook.page}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def written(text: str) -> str:
    """Return a page's text as its file should be."""
    return tables.fill(text, {**WRITTEN, **dict.fromkeys(BUILT, lambda: "")})


def built(text: str) -> str:
    """Return a page's text as the site shows it."""
    return tables.fill(text, {**WRITTEN, **BUILT})


def main() -> None:
    """Write all pages that are stale; with `--output`, write the page of the benchmarks to that folder instead."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path)
    output = parser.parse_args().output
    if output:
        page = ROOT / "docs" / "benchmarks.md"
        (output / page.name).write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
        return
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if written(text) != text:
            page.write_text(written(text), encoding="utf-8")


if __name__ == "__main__":
    main()
