"""The manifest of a scoring: its figures, written with its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from distilspark.config import PredictConfig
from distilspark.drift.indices import Drift, as_records
from distilspark.drift.summary import Summary
from distilspark.errors import WorkError
from distilspark.figures import count_rows
from distilspark.package.load import TaskModel
from distilspark.scoring.staging import OutputPaths

MAX_LISTED_ERRORS = 20  # of errors that are listed


def check_errors(summary: Summary, config: PredictConfig, paths: OutputPaths) -> None:
    """Raise `WorkError` if more rows have an error than `predict.max_error_fraction` allows."""
    if summary.failed <= config.predict.max_error_fraction * summary.rows:
        return
    kinds = "; ".join(f"{count_rows(count)}: {kind}" for kind, count in list(most_frequent_errors(summary).items())[:3])
    raise WorkError(
        f"{summary.failed} of {count_rows(summary.rows)} have an error, more than predict.max_error_fraction="
        f"{config.predict.max_error_fraction:g}. {kinds}. All rows with their errors: {paths.shared('scored')} "
        "(parquet). Correct the input, or raise predict.max_error_fraction, and start again: nothing is scored twice"
    )


def most_frequent_errors(summary: Summary) -> dict[str, int]:
    """Return the kinds of errors, the most frequent first, at most `MAX_LISTED_ERRORS`."""
    ordered = sorted(summary.errors.items(), key=lambda item: (-item[1], item[0]))
    return dict(ordered[:MAX_LISTED_ERRORS])


def make_manifest(
    config: PredictConfig,
    model: TaskModel,
    fingerprint: dict[str, Any],
    summary: Summary,
    drift: Drift,
    seconds: float,
) -> dict[str, Any]:
    """Build the content of `_manifest.json`; `seconds`: of the scoring since its last start."""
    rows = {"in": summary.rows, "scored": summary.scored, "failed": summary.failed, "cut": summary.cut}
    return {
        "task": config.task.name,
        "format": config.predict.format,
        "rows": rows | ({"repeated": summary.repeated} if config.predict.dedupe else {}),
        "errors": most_frequent_errors(summary),
        "drift": as_records(drift),
        "model": model.found.identity | {"digest": model.digest},
        "input": fingerprint["input"],
        "settings": fingerprint["settings"],
        "fingerprint": fingerprint["sha256"],
        "seconds": round(seconds, 3),
        "scoring_seconds": round(summary.seconds, 3),
        "rows_a_second": _rate(summary.rows, summary.seconds),
    }


def _rate(rows: int, seconds: float) -> float:
    return round(rows / seconds, 1) if seconds else 0.0


def sum_manifests(manifests: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Sum `batches`, `rows`, `errors` and the seconds over a stream's batches, or over such sums."""
    batches, rows, errors, seconds = 0, Counter[str](), Counter[str](), Counter[str]()
    for manifest in manifests:
        batches += manifest.get("batches", 1)
        rows.update(manifest["rows"])
        errors.update(manifest["errors"])
        seconds.update({name: manifest[name] for name in ("seconds", "scoring_seconds")})
    return {
        "batches": batches,
        "rows": {name: rows[name] for name in ("in", "scored", "failed", "cut", "repeated") if name in rows},
        "errors": dict(errors.most_common(MAX_LISTED_ERRORS)),
        "seconds": round(seconds["seconds"], 3),
        "scoring_seconds": round(seconds["scoring_seconds"], 3),
        "rows_a_second": _rate(rows["in"], seconds["scoring_seconds"]),
    }
