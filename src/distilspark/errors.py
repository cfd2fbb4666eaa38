"""The two kinds of errors of a command, and their exit codes."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """A user's mistake: the message names the key, file or row and a remedy. Exit code 2, no traceback."""


class WorkError(Exception):
    """A failure of the work itself, explained in the message. Exit code 1, no traceback on the console."""


def wrap_unexpected(error: Exception, log: Path) -> Exception:
    """Return user and work errors unchanged; wrap anything else in a `WorkError` that points to the log."""
    if isinstance(error, (UserError, WorkError)):
        return error
    story = f"\nDetails: {log}" if log.is_file() else ""
    return WorkError(f"{type(error).__name__}: {one_line(error)}{story}")


def one_line(error: Exception) -> str:
    """Return an exception's message, without Hydra's search path and Java's stack trace."""
    text = str(error).partition("Config search path:")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(line for line in lines if not line.startswith("at "))[:600]
