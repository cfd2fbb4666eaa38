"""Draw the documentation's own pictures: `.venv/bin/python docs/generate/pictures.py` writes docs/images/*.svg.

The plots of `benchmarks/growth.py` are drawn from its results, if there are any. Screenshots of MLflow's UI are taken
by `tests/e2e/test_browser.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
sys.path[:0] = [str(DOCS.parent / folder) for folder in ("src", "benchmarks")]

import tables  # noqa: E402
from distilspark.figures import BLUE, GREY, ORANGE, styled  # noqa: E402

CHARACTER, LINE, MARGIN = 8.43, 19, 18  # pixels: of a character and a line at 14 px, and round the text
WIDTH = 100  # characters
BOX, GAP, HEIGHT, ROW_GAP, A_ROW = 172, 26, 68, 30, 4  # of the boxes of a flow
TRAINING = (
    ("read", "strict reader, in Spark:", "good rows, bad rows"),
    ("split", "by a hash of the text:", "train, validation, dev"),
    ("encode", "token ids, in batches", "of similar length"),
    ("fit", "Keras: keep the best", "on validation"),
    ("judge", "dev, once: metrics,", "intervals, plots"),
    ("package", "ONNX graph, tokenizer;", "equal to the network"),
    ("register", "digest, @challenger;", "then the gate"),
)
SCORING = (
    ("fetch", "the package; its", "digest is checked"),
    ("read", "the same strict reader,", "any columns"),
    ("chunk", "numbered rows, in", "a staging folder"),
    ("score", "Spark workers run", "the package"),
    ("count", "every row in is", "one row out"),
    ("publish", "output and manifest,", "in one rename"),
    ("compare", "drift from rows that", "training kept"),
)


def terminal(text: str) -> str:
    """Draw a terminal with the text; lines that are too long end with an ellipsis."""
    lines = ["$ make train TASK=cola", *text.splitlines()]
    shown = [line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…" for line in lines]
    width, height = round(WIDTH * CHARACTER) + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN
    rows = [
        f'<text x="{MARGIN}" y="{MARGIN + LINE * number - 5}" textLength="{len(line) * CHARACTER:.1f}" '
        f'class="{"command" if number == 1 else "line"}">{escape(line)}</text>'
        for number, line in enumerate(shown, 1)
        if line
    ]
    style = (
        "text {font: 14px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; white-space: pre}"
        ".line {fill: #d4d4d4} .command {fill: #9cdcfe}"
    )
    return _svg(width, height, style, [f'<rect width="{width}" height="{height}" rx="8" fill="#1e1e1e"/>', *rows])


def flow() -> str:
    """Draw a row's way through training and scoring."""
    width, height = A_ROW * (BOX + GAP) - GAP + 2 * MARGIN, 460
    parts = [
        *_lane("Training", TRAINING, 18, "#e8eaf6", "#3f51b5"),
        *_lane("Scoring", SCORING, 240, "#e0f2f1", "#00796b"),
    ]
    style = (
        "text {font: 13px system-ui, 'DejaVu Sans', Arial, sans-serif; fill: #222; text-anchor: middle}"
        ".title {font-weight: bold; font-size: 14px} .lane {font-weight: bold; font-size: 15px; text-anchor: start}"
    )
    return _svg(width, height, style, [f'<rect width="{width}" height="{height}" rx="8" fill="#fff"/>', *parts])


def _lane(name: str, steps: tuple[tuple[str, str, str], ...], top: int, fill: str, line: str) -> list[str]:
    """Draw boxes in rows of `A_ROW`, with an arrow from each to the next."""
    parts = [f'<text x="{MARGIN}" y="{top + 14}" class="lane">{name}</text>']
    for number, (title, first, second) in enumerate(steps):
        row, column = divmod(number, A_ROW)
        x, y = MARGIN + column * (BOX + GAP), top + 28 + row * (HEIGHT + ROW_GAP)
        look = f'fill="{fill}" stroke="{line}" stroke-width="1.5"'
        parts.append(f'<rect x="{x}" y="{y}" width="{BOX}" height="{HEIGHT}" rx="6" {look}/>')
        rows = zip((title, first, second), (22, 41, 57), ("title", "", ""), strict=True)
        parts += [
            f'<text x="{x + BOX / 2}" y="{y + down}" class="{kind}">{escape(text)}</text>' for text, down, kind in rows
        ]
        if column:
            arrow = f"M {x - GAP + 2} {y + HEIGHT / 2} H {x - 2} m -7 -5 l 7 5 l -7 5"
        elif row:
            end = MARGIN + (A_ROW - 1) * (BOX + GAP) + BOX / 2
            arrow = f"M {end} {y - ROW_GAP + 2} V {y - ROW_GAP / 2} H {x + BOX / 2} V {y - 2} m -5 -7 l 5 7 l 5 -7"
        else:
            continue
        parts.append(f'<path d="{arrow}" fill="none" stroke="{line}" stroke-width="2"/>')
    return parts


def _svg(width: int, height: int, style: str, parts: list[str]) -> str:
    start = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join([start, f"<style>{style}</style>", *parts, "</svg>", ""])


def growth(panels: Mapping[str, Any]) -> str:
    """Draw the seconds of each panel of `benchmarks/growth.py`, with a line of linear growth."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with styled(), mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "growth"}):
        figure = Figure(figsize=(10, 6))
        for axes, (name, panel) in zip(figure.subplots(2, 3).flat, panels.items(), strict=True):
            _growth_panel(axes, name, panel)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Identifier": digest(panels)})
    return "".join(f"{line.rstrip()}\n" for line in target.getvalue().splitlines())


def digest(panels: Mapping[str, Any]) -> str:
    """Return a checksum of the panels, which their picture has in its metadata."""
    return hashlib.sha256(json.dumps(panels).encode()).hexdigest()


def _growth_panel(axes: Any, name: str, panel: Mapping[str, Any]) -> None:
    from matplotlib.ticker import LogFormatter, NullLocator

    points, shared = panel["points"], panel["shared"]
    sizes, job, command = ([point[key] for point in points] for key in ("size", "seconds", "command_seconds"))
    anchor = 0 if shared else -1  # fixed costs hide linear growth in the first point
    linear = [job[anchor] * (size / sizes[anchor]) ** (-1 if shared else 1) for size in sizes]
    axes.loglog(sizes, job, "o-", color=BLUE, label="job")
    axes.loglog(sizes, command, ".-", color=ORANGE, linewidth=1, label="whole command")
    axes.loglog(sizes, linear, ":", color=GREY, linewidth=1.2, label="linear growth")
    shown = [*job, *command]
    axes.set(title=name, ylabel="seconds", ylim=(min(shown) / 1.5, max(shown) * 1.5))
    axes.set_xticks(sizes, [_tick(point, number % 2) for number, point in enumerate(points)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter())


def _tick(point: Mapping[str, Any], lower: int) -> str:
    """Write a point's model, so many lines lower, or its size."""
    if "model" in point:
        return "\n" * lower + point["model"]
    return f"{point['size'] / 1000:g}k" if point["size"] >= 1000 else f"{point['size']:g}"


def main() -> None:
    """Write all pictures, by default to `docs/images/`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, default=DOCS)
    images = parser.parse_args().output / "images"
    images.mkdir(parents=True, exist_ok=True)
    text = (DOCS / "outputs" / "train_cola.txt").read_text(encoding="utf-8")
    (images / "terminal.svg").write_text(terminal(text), encoding="utf-8")
    (images / "flow.svg").write_text(flow(), encoding="utf-8")
    with suppress(tables.NotMeasuredError):
        (images / "growth.svg").write_text(growth(tables.results("growth")["panels"]), encoding="utf-8")


if __name__ == "__main__":
    main()
