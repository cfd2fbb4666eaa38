"""The terminal: a few lines, tables and progress bars; everything else goes to the log file."""

from __future__ import annotations

import io
import logging
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from distilspark.errors import UserError
from distilspark.redaction import RedactingFormatter, redact, redact_file

logger = logging.getLogger("distilspark")
terminal = Console(highlight=False, soft_wrap=True)
PLAIN_WIDTH = 500  # characters, for output that is no terminal
prefix = ""  # of every line, if several processes share the terminal


class TerminalStream(io.TextIOWrapper):
    """A line-buffered stream to a terminal or pipe that never raises an error.

    If the reader is gone (`| head -1`), the disk is full or the terminal is closed, the rest is dropped. Characters
    that its encoding lacks are escaped.
    """

    def __init__(self, descriptor: int, encoding: str | None) -> None:
        """Take over the file descriptor; the encoding is the locale's if it is None."""
        buffer = io.BufferedWriter(io.FileIO(descriptor, "w"))
        super().__init__(buffer, encoding, errors="backslashreplace", line_buffering=True)

    def write(self, text: str) -> int:
        """Write the text, or drop it."""
        try:
            return super().write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        """Flush the buffer, or drop it."""
        try:
            super().flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())  # so that the buffer can be flushed at exit
        os.close(nowhere)


def keep_standard_streams() -> None:
    """Replace standard output and error with `TerminalStream`s for the whole process; closed ones are dropped."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which the next file would get otherwise
    encodings = [getattr(stream, "encoding", None) for stream in (sys.stdout, sys.stderr)]
    sys.stdout, sys.stderr = map(TerminalStream, (1, 2), encodings)


def set_prefix(name: str | None) -> None:
    """Begin lines and tables with a name from now on, and show no progress bars; None undoes this."""
    global prefix
    prefix = f"{name}: " if name else ""


def print_line(message: str) -> None:
    """Print a line on the terminal, and write it to the log."""
    shown = redact(message)
    logger.info(shown)
    terminal.print(f"{prefix}{shown}", markup=False)


def show_table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a small table without truncation: the first column left-aligned, the others right-aligned."""
    table = Table(title=f"{prefix}{title}", title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        row = tuple(map(redact, row))
        table.add_row(*row)
        logger.info("%s: %s", title, " | ".join(row))
    lines = terminal if terminal.is_terminal else Console(file=terminal.file, width=PLAIN_WIDTH, soft_wrap=True)
    lines.print(table)


def progress_bar() -> Progress:
    """Return a progress bar with counts and remaining time; hidden unless we have a terminal to ourselves."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=terminal, transient=True, disable=not _shows_progress())


@contextmanager
def working(on: str) -> Iterator[None]:
    """Show a spinner with a label while the block runs; hidden unless we have a terminal to ourselves."""
    with terminal.status(on) if _shows_progress() else nullcontext():
        yield


def progress_terminal() -> IO[str] | None:
    """Return the terminal, for libraries' progress bars; None unless we have a terminal to ourselves."""
    return terminal.file if _shows_progress() else None


def _shows_progress() -> bool:
    return terminal.is_terminal and not prefix


def new_log(log: Path) -> None:
    """Create a run's empty log. An existing one, of another run, is renamed to `train-1.log` and so on.

    Raises:
        UserError: its folder cannot be written.

    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                log.touch(exist_ok=False)
                break
            except FileExistsError:
                _set_aside(log)
    except OSError as error:
        raise UserError(
            f"{log.parent} cannot be written: {error.strerror or error}. Set hydra.run.dir (of a multirun: "
            "hydra.sweep.dir) to another folder"
        ) from error


def _set_aside(log: Path) -> None:
    for number in count(1):
        aside = log.with_stem(f"{log.stem}-{number}")
        with suppress(FileExistsError):
            aside.touch(exist_ok=False)
            break
    try:
        log.replace(aside)
    except FileNotFoundError:  # another process was faster
        aside.unlink()


@contextmanager
def log_copy(log: Path) -> Iterator[Path]:
    """Yield a copy, without secrets, of the file that this process logs to; a later run may have renamed it."""
    numbered = log.parent.glob(f"{log.stem}-*{log.suffix}")
    aside = [file for file in numbered if os.path.samestat(file.stat(), os.fstat(2))]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copyfile(aside[0] if aside else log, Path(folder) / log.name))
        redact_file(copy)
        yield copy


@contextmanager
def output_to(log: Path) -> Iterator[int]:
    """Redirect the output of libraries, the JVM and C++ code to the log file; `print_line` still reaches the terminal.

    This redirects file descriptors 1 and 2, so child processes (Spark's JVM and its workers) are quiet too. Yields a
    copy of the original descriptor 1, for `standard_output`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    shown = terminal.file
    with (
        log.open("a+", buffering=1) as file,
        TerminalStream(os.dup(1), sys.stdout.encoding) as kept,
    ):  # + as `written_to_stderr` reads it
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
            redact_file(log)


@contextmanager
def written_to_stderr() -> Iterator[Callable[[], str]]:
    """Yield a function that returns what this process and its children have since written to file descriptor 2.

    It returns an empty string if that is no readable file, as outside `output_to`.
    """
    size = os.fstat(2).st_size

    def read() -> str:
        status = os.fstat(2)
        try:
            is_file = stat.S_ISREG(status.st_mode)
            return os.pread(2, status.st_size - size, size).decode(errors="replace") if is_file else ""
        except OSError:  # opened for writing only
            return ""

    yield read


@contextmanager
def standard_output(original: int) -> Iterator[None]:
    """Restore the original file descriptor 1 inside `output_to`, for jobs with their own logs that also print."""
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("py4j").setLevel(logging.WARNING)
    logger.disabled = False  # Hydra's `job_logging: disabled` disables existing loggers


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Format metrics on one line.

    >>> format_metrics({"loss": 0.51234, "mcc": 0.4551})
    'loss 0.5123  mcc 0.4551'
    """
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
