"""Redaction of the secrets that this process was given."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

MASK = "***"
SECRET_NAMES = re.compile(
    r"pass(word|wd|phrase)|secret|token(?!s|iz)|(access|api|private)[._-]?key|credential", re.IGNORECASE
)
IN_URI = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/:@]*:([^\s]*)@", re.I)  # a password may hold a slash or an @
IN_QUERY = re.compile(r"[?&;]([\w.-]+)=([^&;\s]+)")
MIN_LENGTH = 6  # characters: a shorter secret occurs in too many words
known_secrets: set[str] = set()


def is_secret(name: str) -> bool:
    """Return whether a setting or variable of this name holds a secret.

    >>> [is_secret(name) for name in ("spark.hadoop.fs.s3a.secret.key", "AWS_ACCESS_KEY_ID", "accessToken")]
    [True, True, True]
    >>> [is_secret(name) for name in ("spark.executor.cores", "predict.batch_tokens", "tokenizer_sha256")]
    [False, False, False]
    """
    return bool(SECRET_NAMES.search(name))


def learn_secrets(settings: Mapping[str, Any]) -> None:
    """Remember the secrets among settings or variables: values with secret names, and passwords in URIs."""
    for name, value in settings.items():
        text = str(value)
        found = {text} if is_secret(name) and not os.access(text, os.F_OK) else set(_in_uri(text))
        known_secrets.update(form for each in found for form in (each, unquote(each)) if len(form) >= MIN_LENGTH)


def learn_from_environment() -> None:
    """Remember the secrets in this process's environment."""
    learn_secrets(os.environ)


def _in_uri(text: str) -> list[str]:
    passwords = [found[1] for found in IN_URI.finditer(text)]
    return passwords + [value for name, value in IN_QUERY.findall(text) if is_secret(name)]


def redact(text: str) -> str:
    """Replace every known secret, and every password in a URI.

    >>> redact("postgresql://ann:s3cr/et@db.example:5432/mlflow?sslpassword=abcd&sslmode=require")
    'postgresql://ann:***@db.example:5432/mlflow?sslpassword=***&sslmode=require'
    >>> redact("http://127.0.0.1:5000"), redact("sqlite:////data/mlflow.db")
    ('http://127.0.0.1:5000', 'sqlite:////data/mlflow.db')
    """
    for secret in sorted(known_secrets.union(_in_uri(text)), key=len, reverse=True):
        text = text.replace(secret, MASK) if secret else text
    return text


def redact_file(file: Path) -> None:
    """Replace the secrets in a log to which others have written too; leave a file without any unchanged."""
    try:
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
        if (shown := redact(text)) != text:
            file.write_text(shown, encoding="utf-8", errors="surrogateescape")
    except OSError:  # it was deleted, or cannot be written
        return


class RedactingFormatter(logging.Formatter):
    """A formatter whose lines and tracebacks contain no secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record without secrets."""
        return redact(super().format(record))
