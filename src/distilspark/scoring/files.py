"""Scoring some files into a folder that appears whole: read once, score in chunks, check, publish."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from distilspark.config import PredictConfig
from distilspark.console import working
from distilspark.data.filesystem import to_spark
from distilspark.data.read import Inputs
from distilspark.scoring.chunks import Udf, ingest, score_chunks
from distilspark.scoring.drift import Drift, measure_drift
from distilspark.scoring.manifest import check_errors, check_nothing_is_lost, count_errors, make_manifest
from distilspark.scoring.output import write_output
from distilspark.scoring.packaged import TaskModel
from distilspark.scoring.profile import labelled_metrics, profile_of
from distilspark.scoring.staging import MANIFEST, Places, fingerprint, open_staging, publish, write_json


@dataclass(frozen=True)
class Scored:
    """What a scoring found, once its output is in its place."""

    manifest: dict[str, Any]
    profile: dict[str, Any]  # as `profile_of`
    drift: Drift
    metrics: dict[str, float]  # on the rows that have a label


def score_files(
    spark: SparkSession,
    config: PredictConfig,
    model: TaskModel,
    udf: Udf,
    inputs: Inputs,
    places: Places,
    started: float,
) -> Scored:
    """Score the files into `places.output`; `started` is when the work on them was, by `time.perf_counter`."""
    with working("reading the input"):
        wanted = fingerprint(config, inputs, model)
        open_staging(spark, places, wanted, config.predict.overwrite)
        chunks = ingest(spark, config, inputs, places)
    counts = score_chunks(spark, config, model, udf, places, chunks)
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
