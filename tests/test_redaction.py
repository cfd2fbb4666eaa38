"""Secrets are redacted everywhere, and other text is unchanged."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from distilspark import redaction
from distilspark.redaction import RedactingFormatter, learn_secrets, redact, redact_file


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    monkeypatch.setattr(redaction, "known_secrets", set())
    return redaction.known_secrets


@pytest.mark.parametrize(
    "uri, shown",
    [
        ("postgresql+psycopg2://ann:pass@db/mlflow", "postgresql+psycopg2://ann:***@db/mlflow"),
        (
            "postgresql://ann:p@ss:w/rd@db:5432/mlflow?sslmode=require",
            "postgresql://ann:***@db:5432/mlflow?sslmode=require",
        ),
        ("https://ann:secret@mlflow.example", "https://ann:***@mlflow.example"),
        ("postgresql://ann@db/mlflow", "postgresql://ann@db/mlflow"),
        ("sqlite:///C:/data/mlflow.db", "sqlite:///C:/data/mlflow.db"),
    ],
)
def test_passwords_in_uris_are_redacted(uri: str, shown: str) -> None:
    assert redact(uri) == shown


def test_known_secrets_are_redacted_in_any_text(known: set[str], tmp_path: Path) -> None:
    """Secrets are learned from the names of settings and from URIs, as written and decoded."""
    there = tmp_path / "key.pem"
    there.touch()
    learn_secrets(
        {
            "spark.hadoop.fs.s3a.secret.key": "wJalrXUt",
            "MLFLOW_TRACKING_URI": "http://ann:p%40ssw0rd@127.0.0.1/",
            "store": "postgresql://db/mlflow?password=hunter22&sslmode=require",
            "GOOGLE_APPLICATION_CREDENTIALS": str(there),
            "PASSWORD": "auto",
            "predict.batch_tokens": "4096x4096",
        }
    )
    assert known == {"wJalrXUt", "p%40ssw0rd", "p@ssw0rd", "hunter22"}
    assert redact("no wJalrXUt, p@ssw0rd or hunter22 with auto") == "no ***, *** or *** with auto"


def test_secrets_are_redacted_in_logs(tmp_path: Path) -> None:
    learn_secrets({"token": "wJalrXUt"})
    log = tmp_path / "train.log"
    log.write_bytes(b"the JVM wrote wJalrXUt \xff\n")
    redact_file(log)
    assert log.read_bytes() == b"the JVM wrote *** \xff\n"
    record = logging.LogRecord("x", logging.INFO, "x", 1, "%s", ("wJalrXUt",), None)
    assert RedactingFormatter("%(message)s").format(record) == "***"
