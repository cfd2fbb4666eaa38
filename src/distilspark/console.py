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
WIDE = 500  # characters: a file has no edge
prefix = ""  # of every line, where several processes share the terminal


class TerminalStream(io.TextIOWrapper):
    """Text to a terminal or pipe, written line by line and never a reason to fail.

    Where the reader is gone (`| head -1`), the disk behind it full or the terminal closed, the rest goes nowhere.
    Characters that its encoding lacks are escaped.
    """

    def __init__(self, descriptor: int, encoding: str | None) -> None:
        """Take over the file descriptor; the encoding is the locale's where it is None."""
        buffer = io.BufferedWriter(io.FileIO(descriptor, "w"))
        super().__init__(buffer, encoding, errors="backslashreplace", line_buffering=True)

    def write(self, text: str) -> int:
        """Write, or drop the text."""
        try:
            return super().write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        """Flush, or drop what is left."""
        try:
            super().flush()
        except OSError:
            self._give_up()

    def _give_up(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())  # so that what is still in the buffer can be written at the end
        os.close(nowhere)


def keep_standard_streams() -> None:
    """Make standard output and error `TerminalStream`s, for the whole process; those that are closed go nowhere."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free, which would be the next file's otherwise
    encodings = [getattr(stream, "encoding", None) for stream in (sys.stdout, sys.stderr)]
    sys.stdout, sys.stderr = map(TerminalStream, (1, 2), encodings)


def set_prefix(name: str | None) -> None:
    """From now on, begin lines and tables with a name, and show nothing that moves; not so with None."""
    global prefix
    prefix = f"{name}: " if name else ""


def print_line(message: str) -> None:
    """Write a line to the log, and print it for the person at the terminal: who has read it finds it in the log."""
    shown = redact(message)
    logger.info(shown)
    terminal.print(f"{prefix}{shown}", markup=False)


def show_table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a small table: the first column to the left, the others to the right; nothing of it is cut."""
    table = Table(title=f"{prefix}{title}", title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        row = tuple(map(redact, row))
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
    return terminal.is_terminal and not prefix


def new_log(log: Path) -> None:
    """Make a run's empty log. One of that name which is there, of another run, becomes `train-1.log` and so on.

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
def own_log(log: Path) -> Iterator[Path]:
    """Yield a copy, without secrets, of the file that this process logs to; a later run may have set that aside."""
    numbered = log.parent.glob(f"{log.stem}-*{log.suffix}")
    aside = [file for file in numbered if os.path.samestat(file.stat(), os.fstat(2))]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copyfile(aside[0] if aside else log, Path(folder) / log.name))
        redact_file(copy)
        yield copy


@contextmanager
def output_to(log: Path) -> Iterator[int]:
    """Send all that libraries, the JVM and C++ code write to the log file; `print_line` still reaches the terminal.

    Works on file descriptors 1 and 2, so child processes (Spark's JVM and its workers) are quiet too. Yields a copy of
    what 1 was, for `standard_output`.
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
    """Yield a function that returns what this process and its children have written to file descriptor 2 since.

    It returns nothing where that is no file that can be read, as it is outside `output_to`.
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("py4j").setLevel(logging.WARNING)
    logger.disabled = False  # Hydra's `job_logging: disabled` switches off the loggers that were there before it


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Metrics on one line.

    >>> format_metrics({"loss": 0.51234, "mcc": 0.4551})
    'loss 0.5123  mcc 0.4551'
    """
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
