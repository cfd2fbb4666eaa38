"""What a scoring did, in figures, beside what it wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from distilspark.config import PredictConfig
from distilspark.errors import WorkError
from distilspark.figures import count_rows
from distilspark.scoring.chunks import ROW_NUMBER, Chunk, Counts
from distilspark.scoring.drift import Drift, as_records
from distilspark.scoring.packaged import TaskModel
from distilspark.scoring.staging import Places

MOST_KINDS = 20  # of errors that are listed


def check_nothing_is_lost(scored: DataFrame, chunks: list[Chunk]) -> None:
    """Raise `WorkError` unless every row that was read came out, once."""
    expected = sum(chunk.rows for chunk in chunks)
    found = scored.agg(F.count("*").alias("rows"), F.count_distinct(ROW_NUMBER).alias("distinct")).first()
    assert found is not None
    if (found["rows"], found["distinct"]) != (expected, expected):
        raise WorkError(f"{expected} rows went in, {found['rows']} came out, {found['distinct']} of them different")


def count_errors(scored: DataFrame) -> dict[str, int]:
    """Kinds of errors, the most frequent first; their figures count as the same."""
    kind = F.regexp_replace("error", r"\b\d+ characters", "too many characters").alias("kind")
    kinds = scored.where("error != ''").groupBy(kind).count().orderBy(F.desc("count"), "kind").limit(MOST_KINDS)
    return {row["kind"]: row["count"] for row in kinds.collect()}


def check_errors(counts: Counts, errors: dict[str, int], config: PredictConfig, places: Places) -> None:
    """Raise `WorkError` where more rows have an error than `predict.max_error_fraction` allows."""
    if counts.failed <= config.predict.max_error_fraction * counts.rows:
        return
    kinds = "; ".join(f"{count_rows(count)}: {kind}" for kind, count in list(errors.items())[:3])
    raise WorkError(
        f"{counts.failed} of {count_rows(counts.rows)} have an error, more than predict.max_error_fraction="
        f"{config.predict.max_error_fraction:g}. {kinds}. All rows with their errors: {places.of('scored')} (parquet). "
        "Mend the input, or raise predict.max_error_fraction and start again: nothing is scored twice"
    )


def make_manifest(
    config: PredictConfig,
    model: TaskModel,
    fingerprint: dict[str, Any],
    counts: Counts,
    errors: dict[str, int],
    drift: Drift,
    seconds: float,
) -> dict[str, Any]:
    """What stands in `_manifest.json`; `seconds` is what the scoring took since it was last started."""
    return {
        "task": config.task.name,
        "format": config.predict.format,
        "rows": {"in": counts.rows, "scored": counts.scored, "failed": counts.failed, "cut": counts.cut},
        "errors": errors,
        "drift": as_records(drift),
        "model": asdict(model.found) | {"folder": None, "data": None, "digest": model.digest},
        "input": fingerprint["input"],
        "settings": fingerprint["settings"],
        "fingerprint": fingerprint["sha256"],
        "seconds": round(seconds, 3),
        "scoring_seconds": round(counts.seconds, 3),
        "rows_a_second": _rate(counts.rows, counts.seconds),
    }


def _rate(rows: int, seconds: float) -> float:
    return round(rows / seconds, 1) if seconds else 0.0


def sum_up(manifests: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The sums over a stream's batches, or over such sums: `batches`, `rows`, `errors` and the seconds."""
    batches, rows, errors, seconds = 0, Counter[str](), Counter[str](), Counter[str]()
    for manifest in manifests:
        batches += manifest.get("batches", 1)
        rows.update(manifest["rows"])
        errors.update(manifest["errors"])
        seconds.update({name: manifest[name] for name in ("seconds", "scoring_seconds")})
    return {
        "batches": batches,
        "rows": {name: rows[name] for name in ("in", "scored", "failed", "cut")},
        "errors": dict(errors.most_common(MOST_KINDS)),
        "seconds": round(seconds["seconds"], 3),
        "scoring_seconds": round(seconds["scoring_seconds"], 3),
        "rows_a_second": _rate(rows["in"], seconds["scoring_seconds"]),
    }
