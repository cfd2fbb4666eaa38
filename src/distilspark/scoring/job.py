"""Scoring files with a registered model: read once, score in chunks, check, publish."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from pyspark.sql import SparkSession

from distilspark.config import PredictConfig
from distilspark.console import format_metrics, say, working
from distilspark.data.filesystem import to_spark
from distilspark.figures import count_rows
from distilspark.scoring.chunks import ingest, score_chunks
from distilspark.scoring.drift import Drift, measure_drift
from distilspark.scoring.drift_report import report_drift
from distilspark.scoring.inputs import find_inputs
from distilspark.scoring.manifest import check_errors, check_nothing_is_lost, count_errors, make_manifest
from distilspark.scoring.output import write_output
from distilspark.scoring.packaged import TaskModel, load_task_model
from distilspark.scoring.profile import labelled_metrics, profile_figures, profile_of
from distilspark.scoring.staging import (
    MANIFEST,
    check_output,
    fingerprint,
    only_scoring,
    open_staging,
    places_of,
    publish,
    write_json,
)
from distilspark.spark import open_session, with_retries
from distilspark.tracking.registry import link_model
from distilspark.tracking.results import log_figures


@dataclass(frozen=True)
class Scored:
    """What a job found, once its output is in its place."""

    manifest: dict[str, Any]
    profile: dict[str, Any]  # as `profile_of`
    drift: Drift
    metrics: dict[str, float]  # on the rows that have a label


def score(config: PredictConfig) -> None:
    """Score `input` into `output`, inside the active run."""
    with tempfile.TemporaryDirectory(prefix="distilspark-model-") as scratch:
        with working("fetching the model"):
            model = load_task_model(config.model_uri, config.task, Path(scratch))
        link_model(model.found)
        with open_session(with_retries(config.spark), f"distilspark-predict-{config.task.name}") as spark:
            scored = score_in(spark, config, model)
    report(scored, model, config)


def score_in(spark: SparkSession, config: PredictConfig, model: TaskModel) -> Scored:
    """The whole job in a running session."""
    started = time.perf_counter()
    assert config.input and config.output
    places = places_of(config.output)
    with only_scoring(places):
        with working("reading the input"):
            inputs = find_inputs(spark, config.task, config.input)
            check_output(spark, places, inputs, config.predict.overwrite)
            wanted = fingerprint(config, inputs, model)
            open_staging(spark, places, wanted, config.predict.overwrite)
            chunks = ingest(spark, config, inputs, places)
        counts = score_chunks(spark, config, model, places, chunks)
        with working("checking and writing the output"):
            rows = spark.read.parquet(*to_spark([places.of("scored", chunk.name) for chunk in chunks]))
            check_nothing_is_lost(rows, chunks)
            errors = count_errors(rows)
            check_errors(counts, errors, config, places)
            profile, metrics = profile_of(rows, config.task), labelled_metrics(rows, config.task)
            drift = measure_drift(model.profile, profile)
            write_output(rows, counts.rows, config, model.found.version, places.of("output"))
            manifest = make_manifest(config, model, wanted, counts, errors, drift, time.perf_counter() - started)
            write_json(spark, places.of("output", MANIFEST), manifest)
            publish(spark, places)
    return Scored(manifest, profile, drift, metrics)


def report(scored: Scored, model: TaskModel, config: PredictConfig) -> None:
    """Tell the person, and MLflow, what came out; the output is in its place whatever happens here."""
    manifest = scored.manifest
    rows = manifest["rows"]
    say(f"{count_rows(rows['in'])}, {rows['failed']} with an error, {manifest['rows_a_second']:g} a second")
    say(f"written to {config.output}")
    if scored.metrics:
        say(f"on the rows with a label: {format_metrics(scored.metrics)}")
    mlflow.log_metrics(
        {
            **{f"rows/{name}": count for name, count in rows.items()},
            **{f"scored/{name}": value for name, value in scored.metrics.items()},
            "time/job": manifest["seconds"],
            "time/scoring": manifest["scoring_seconds"],
            "speed/scoring": manifest["rows_a_second"],
        }
    )
    mlflow.log_dict(manifest, "manifest.json")
    mlflow.log_dict(scored.profile, "profile/profile.json")
    log_figures(profile_figures(scored.profile, model.max_length), "profile")
    report_drift(scored.drift, model)
