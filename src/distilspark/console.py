"""What a person sees: a few lines, tables and progress bars; everything else goes to the log file."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

logger = logging.getLogger("distilspark")
terminal = Console(highlight=False, soft_wrap=True)
WIDE = 500  # characters: a file has no edge
speaker = ""  # who says what is printed, where several processes share the terminal


def speak_as(name: str | None) -> None:
    """From now on, begin lines and tables with a name, and show nothing that moves; not so with None."""
    global speaker
    speaker = f"{name}: " if name else ""


def say(message: str) -> None:
    """Write a line to the log, and print it for the person at the terminal: who has read it finds it in the log."""
    logger.info(message)
    terminal.print(f"{speaker}{message}", markup=False)


def show_table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a small table: the first column to the left, the others to the right; nothing of it is cut."""
    table = Table(title=f"{speaker}{title}", title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
        logger.info("%s: %s", title, " | ".join(row))
    lines = terminal if terminal.is_terminal else Console(file=terminal.file, width=WIDE, soft_wrap=True)
    lines.print(table)


def progress_bar() -> Progress:
    """A progress bar with counts and the time that remains; silent where the output is not a terminal of our own."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=terminal, transient=True, disable=not _may_move())


@contextmanager
def working(on: str) -> Iterator[None]:
    """A spinner that tells what takes so long; nothing where the output is not a terminal of our own."""
    with terminal.status(on) if _may_move() else nullcontext():
        yield


def moving_terminal() -> IO[str] | None:
    """The terminal, for the progress bars of others; None where nothing may move."""
    return terminal.file if _may_move() else None


def _may_move() -> bool:
    return terminal.is_terminal and not speaker


@contextmanager
def output_to(log: Path) -> Iterator[int]:
    """Send all that libraries, the JVM and C++ code write to the log file; only `say` and its like reach the terminal.

    Works on file descriptors 1 and 2, so child processes (Spark's JVM and its workers) are quiet too. Yields a copy of
    what 1 was, for `standard_output`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    shown = terminal.file
    with log.open("a", buffering=1) as file, os.fdopen(os.dup(1), "w", buffering=1) as kept:
        sys.stdout.flush()
        sys.stderr.flush()
        terminal.file = kept
        for descriptor in saved:
            os.dup2(file.fileno(), descriptor)
        try:
            yield saved[1]
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            terminal.file = shown
            for descriptor, original in saved.items():
                os.dup2(original, descriptor)
                os.close(original)


@contextmanager
def standard_output(original: int) -> Iterator[None]:
    """Inside `output_to`, file descriptor 1 as it was: for jobs that have logs of their own, and say something too."""
    sys.stdout.flush()
    current = os.dup(1)
    os.dup2(original, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(current, 1)
        os.close(current)


def log_to_stderr() -> None:
    """Write Python's own log records to standard error, which `output_to` sends to the log file."""
    logging.captureWarnings(True)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("py4j").setLevel(logging.WARNING)
    logger.disabled = False  # Hydra's `job_logging: disabled` switches off the loggers that were there before it


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Metrics on one line.

    >>> format_metrics({"loss": 0.51234, "mcc": 0.4551})
    'loss 0.5123  mcc 0.4551'
    """
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
