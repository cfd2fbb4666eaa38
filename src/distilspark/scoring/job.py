"""Score files into a folder that appears whole: read once, score in chunks, check, publish."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from distilspark.config import PredictConfig
from distilspark.console import print_line, working
from distilspark.data.read import Inputs
from distilspark.drift.indices import Drift, measure_drift
from distilspark.drift.profile import profile_of
from distilspark.drift.summary import EMPTY, Summary
from distilspark.package.load import TaskModel
from distilspark.redaction import redact
from distilspark.scoring.chunks import ingest, read_scored, score_chunks
from distilspark.scoring.labelled import labelled_metrics
from distilspark.scoring.manifest import check_errors, make_manifest
from distilspark.scoring.model_udf import Udf
from distilspark.scoring.output import write_output
from distilspark.scoring.staging import (
    MANIFEST,
    OutputPaths,
    clean_up,
    open_staging,
    publish_output,
    read_json,
    scoring_fingerprint,
    write_json,
)
from distilspark.tracking.runs import end_interrupted

PARQUET = {"spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS"}  # INT96 (default) ends in 2262 in other readers


@dataclass(frozen=True)
class ScoringResult:
    """The figures of a finished scoring."""

    manifest: dict[str, Any]
    summary: Summary
    profile: dict[str, Any]  # as `profile_of`; empty if only the manifest is left
    drift: Drift
    metrics: dict[str, float]  # on the rows that have a label


def score_files(
    spark: SparkSession,
    config: PredictConfig,
    model: TaskModel,
    udf: Udf,
    inputs: Inputs,
    paths: OutputPaths,
    started: float,
    run_id: str | None,
) -> ScoringResult:
    """Score the files into `paths.output`.

    Args:
        spark: the running session.
        config: of the scoring.
        model: its digest is part of the fingerprint.
        udf: the model as a function.
        inputs: the files to score.
        paths: of the output.
        started: when the work on the files began, by `time.perf_counter`.
        run_id: the MLflow run of this scoring, which replaces that of a killed start.

    """
    for key, value in PARQUET.items():
        spark.conf.set(key, value)
    with working("reading the input"):
        wanted = scoring_fingerprint(config, inputs, model)
        earlier = open_staging(spark, paths, wanted, config.predict.overwrite, run_id)
        end_interrupted(earlier, run_id)
        plan = ingest(spark, config, inputs, paths)
    summary = score_chunks(spark, config, model, udf, paths, plan)
    with working("writing the output"):
        check_errors(summary, config, paths)
        rows = read_scored(spark, config, paths, plan)
        profile, metrics = profile_of(summary, config.task), labelled_metrics(summary, rows, config.task)
        drift = measure_drift(model.profile, profile)
        write_output(rows, len(plan.chunks), config, model.found.version, paths.own("output"))
        manifest = make_manifest(config, model, wanted, summary, drift, time.perf_counter() - started)
        write_json(spark, f"{paths.own('output')}/{MANIFEST}", json.loads(redact(json.dumps(manifest))))
        publish_output(spark, paths, config.predict.overwrite)
    return ScoringResult(manifest, summary, profile, drift, metrics)


def finish_published(spark: SparkSession, config: PredictConfig, paths: OutputPaths) -> ScoringResult:
    """Return the figures in the manifest of an output that a killed start has published."""
    manifest = read_json(spark, f"{paths.output}/{MANIFEST}")
    clean_up(spark, paths)
    print_line(f"{config.output} was already written by an earlier start of this job, which was killed before it ended")
    return ScoringResult(manifest, EMPTY, {}, {}, {})
