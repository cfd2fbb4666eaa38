"""A training from its data to its registered model: the project's main story."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import mlflow
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from tokenizers import Tokenizer

from distilspark.commands.reporting import bad_rows_kept, report_bad_rows, show_evaluation
from distilspark.commands.together import find_checkpoints, train_together
from distilspark.config import DEFAULT_THRESHOLD, Precision, SparkConfig, TrainConfig
from distilspark.console import say, working
from distilspark.data.fingerprints import distinct_text_hashes
from distilspark.data.loading import Datasets, load_datasets
from distilspark.evaluation.plots import history_plot
from distilspark.evaluation.predictions import Array, Predictions
from distilspark.evaluation.report import Evaluation, evaluate
from distilspark.evaluation.threshold import tune_threshold
from distilspark.features.encoding import Encoded, encode, load_tokenizer
from distilspark.features.pipeline import stop_words, with_model_texts
from distilspark.features.profile import profile
from distilspark.model.checkpoints import fetch
from distilspark.model.network import export_arrays
from distilspark.scoring.package import (
    GRAPHS,
    check_parity,
    largest_difference,
    log_package,
    outputs_of,
    size_of,
    write_package,
    write_profile,
)
from distilspark.scoring.profile import profile_of_outputs
from distilspark.scoring.quantization import choose_precision, measure_quantization
from distilspark.spark import for_workers, open_session
from distilspark.tracking.datasets import log_datasets, log_training_texts
from distilspark.tracking.model_card import CARD, model_card
from distilspark.tracking.registry import register_run
from distilspark.tracking.results import (
    describe_run,
    epoch_log,
    log_evaluation,
    log_figures,
    log_predictions,
    log_tables,
)
from distilspark.tracking.runs import active_run_id, timed
from distilspark.training.checkpointing import CheckpointFolder
from distilspark.training.fit import Aim, FitResult, aim_at, first_network, fit, take_over
from distilspark.training.prediction import Predictor
from distilspark.training.resuming import Checkpoints, Outcome, weights_digest
from distilspark.training.threshold import fold_threshold


@dataclass(frozen=True)
class Split:
    """A split's rows and their token ids."""

    rows: pd.DataFrame  # id, sentence1, sentence2, label, source, split, text1, (text2), tokens
    encoded: Encoded

    @property
    def labels(self) -> Any:
        """(n,) float."""
        return self.rows["label"].to_numpy(dtype=float)


@dataclass(frozen=True)
class Prepared:
    """The data, here and in Spark, and the stop words that were removed from what the network reads."""

    splits: dict[str, Split]  # without train where Spark's workers train: it need not fit in here
    fitted: pd.DataFrame  # of train: id, label and source at least
    rows: DataFrame  # of train and validation, for as long as the session lives
    stop_words: list[str]
    digest: str  # of what is trained and chosen on

    def aim(self, config: TrainConfig) -> Aim:
        """What is fitted."""
        return aim_at(self.fitted["label"].to_numpy(dtype=float), config.task, config.training)


def fine_tune(config: TrainConfig, folder: Path, kept: CheckpointFolder | None, *, registered: bool) -> None:
    """Load, fine-tune, evaluate, log and register, inside the active run; `folder` takes files on their way.

    `kept` has the checkpoints of a training that was interrupted, and takes those of this one. A job of a sweep is not
    registered: the best of them is, when all have ended.
    """
    with timed("checkpoint"):
        checkpoint = fetch(config.model)
        tokenizer = load_tokenizer(checkpoint)
    with ExitStack() as session:
        with timed("data"), working("reading, checking and profiling the data in Spark"):
            spark = session.enter_context(open_session(resources(config), f"distilspark-train-{config.task.name}"))
            prepared = prepare_data(config, spark, tokenizer, folder)
        checkpoints = find_checkpoints(config, kept, prepared.digest)
        outcome = None
        if config.training.workers > 1:
            with timed("workers"):
                outcome = train_together(config, tokenizer, prepared.rows, prepared.aim(config), checkpoints)
    network, dev = first_network(config, checkpoint), prepared.splits["dev"]
    with timed("train"):
        result = train(config, network, prepared, checkpoints, outcome)
    with timed("predict", rows=len(dev.rows)):
        predictions = predict(config, network, dev)
    with timed("evaluate"), working("drawing plots and intervals"):
        evaluation = judge(config, predictions, prepared.fitted)
    log_predictions(predictions)
    log_evaluation(evaluation, config.task, result.best_epoch)
    with timed("package"), working("packaging the model"):
        package(config, network, checkpoint, prepared, predictions, result)
    publish(config, evaluation, result, registered=registered)


def resources(config: TrainConfig) -> SparkConfig:
    """What the data, and the workers where there are any, need of Spark."""
    workers = config.training.workers
    return for_workers(config.spark, workers) if workers > 1 else config.spark


def prepare_data(config: TrainConfig, spark: SparkSession, tokenizer: Tokenizer, folder: Path) -> Prepared:
    """The splits, read, checked, profiled and logged by Spark, encoded for the network."""
    datasets = load_and_report(config, spark, folder / "bad_rows.csv")
    rows = {name: with_model_texts(frame, config.task, config.features.text) for name, frame in datasets.splits.items()}
    known = rows["train"].unionByName(rows["validation"])
    profiled = profile(rows, config.task, tokenizer.to_str(), config.model.max_length)
    frames = {name: _collect(frame) for name, frame in rows.items() if name != "train" or config.training.workers == 1}
    fitted = frames["train"] if "train" in frames else _collect(rows["train"].select("id", "label", "source"))
    removed = stop_words() if config.features.text == "filtered" else []
    name = f"{config.task.name}-{datasets.source}"
    log_datasets(datasets.sizes, frames["dev"], datasets.files, datasets.digests, name)
    log_training_texts(distinct_text_hashes(known))
    mlflow.log_metrics(profiled.metrics)
    log_figures(profiled.figures, "profile")
    log_tables(profiled.tables, "profile")
    digest = " ".join(datasets.digests[name] for name in ("train", "validation"))
    splits = {name: _encode(config, tokenizer, frame) for name, frame in frames.items()}
    return Prepared(splits, fitted, known, removed, digest)


def load_and_report(config: TrainConfig, spark: SparkSession, bad_rows: Path) -> Datasets:
    """The data; tells what was read, from where, and what was wrong with it, also when that ends the run."""
    with bad_rows_kept(bad_rows):
        datasets = load_datasets(spark, config.task, config.data, bad_rows)
    sizes = ", ".join(f"{size} {name}" for name, size in datasets.sizes.items())
    say(f"data: {datasets.source} ({sizes} rows)")
    report_bad_rows(len(datasets.bad_rows), bad_rows)
    if repeated := datasets.counts["data/duplicates_train_dev"]:
        say(f"{repeated} rows of dev stand in train too: their metrics flatter the model")
    mlflow.set_tag("data.source", datasets.source)
    mlflow.log_metrics({name: float(count) for name, count in datasets.counts.items()})
    return datasets


def _collect(rows: DataFrame) -> pd.DataFrame:
    """The rows here, in an order that partitions have no part in: batches and the bootstrap draw by position."""
    return rows.toPandas().sort_values("id", ignore_index=True)


def _encode(config: TrainConfig, tokenizer: Tokenizer, frame: pd.DataFrame) -> Split:
    pairs = frame["text2"].tolist() if config.task.is_pair else None
    encoded = encode(tokenizer, frame["text1"].tolist(), pairs, config.model.max_length)
    return Split(frame.assign(tokens=encoded.full_lengths), encoded)


def train(
    config: TrainConfig,
    network: keras.Model,
    prepared: Prepared,
    checkpoints: Checkpoints | None,
    outcome: Outcome | None,
) -> FitResult:
    """Fit on train, choose the epoch on validation; dev has no part in it. Workers may have done it: `outcome`."""
    chosen_on = prepared.splits["validation"]
    if outcome:
        result = take_over(network, outcome, prepared.aim(config))
    else:
        result = fit_here(config, network, prepared, checkpoints)
    mlflow.set_tag("model.weights_sha256", weights_digest(network))
    rows_seen = len(prepared.fitted) * len(result.history)
    kept = result.history.loc[result.history["epoch"] == result.best_epoch, f"val/{config.task.metric}"].item()
    mlflow.log_metrics(
        {
            "train/best_epoch": result.best_epoch,
            f"val/kept_{config.task.metric}": kept,
            "speed/train": rows_seen / result.history["time/epoch"].sum(),
        }
    )
    mlflow.log_text(json.dumps(result.class_weights), "config/class_weights.json")
    log_figures({"history": history_plot(result.history, config.task.headline, result.best_epoch)}, "training")
    say(f"kept epoch {result.best_epoch}, the best on the validation split")
    return replace(result, threshold=settle_threshold(config, network, chosen_on))


def fit_here(
    config: TrainConfig, network: keras.Model, prepared: Prepared, checkpoints: Checkpoints | None
) -> FitResult:
    """Fit in this process."""
    train, validation = prepared.splits["train"], prepared.splits["validation"]
    return fit(
        network,
        (train.encoded, train.labels),
        (validation.encoded, validation.labels),
        config.task,
        config.training,
        config.evaluation.batch_tokens,
        epoch_log(active_run_id()),
        checkpoints,
    )


def settle_threshold(config: TrainConfig, network: keras.Model, validation: Split) -> float:
    """Choose the decision threshold on validation, where it is to be tuned, and let the network decide by it."""
    threshold, metric = config.training.threshold, config.task.metric
    if threshold == DEFAULT_THRESHOLD:
        return DEFAULT_THRESHOLD
    if threshold == "tuned":
        said = predict(config, network, validation)
        threshold = tune_threshold(said.labels, said.outputs[:, 1], config.task.headline)
    fold_threshold(network, threshold)
    decided = predict(config, network, validation)
    score = config.task.head_kind.compute_metrics(decided.labels, decided.outputs)[metric]
    mlflow.log_metrics({"train/threshold": threshold, f"val/threshold_{metric}": score})
    say(f"{config.task.labels[1]} above a probability of {threshold:.4f}: {metric} {score:.4f} on the validation split")
    return threshold


def predict(config: TrainConfig, network: keras.Model, split: Split) -> Predictions:
    """What the kept weights say about a split."""
    predictor = Predictor(network, config.evaluation.batch_tokens, config.training.bucket_width)
    return Predictions(split.rows, split.labels, config.task.head_kind.activate(predictor.raw_outputs(split.encoded)))


def judge(config: TrainConfig, predictions: Predictions, fitted: pd.DataFrame) -> Evaluation:
    """Metrics, intervals, slices and plots, and the baseline that the training split gives."""
    labels, sources = fitted["label"].to_numpy(dtype=float), set(fitted["source"].dropna())
    return evaluate(config.task, predictions, labels, sources, config.evaluation)


def package(
    config: TrainConfig,
    network: keras.Model,
    checkpoint: Path,
    prepared: Prepared,
    predictions: Predictions,
    result: FitResult,
) -> None:
    """Log the network for scoring, once it says the same as the network about every row of dev.

    What the package says about validation travels with it, as a profile that scoring compares its own rows with.
    """
    arrays, rows, outputs = export_arrays(network), predictions.rows, predictions.outputs
    validation = prepared.splits["validation"]
    with tempfile.TemporaryDirectory() as scratch:
        folders = {precision: Path(scratch) / precision / "scorer" for precision in GRAPHS}
        for precision, folder in folders.items():
            write_package(
                folder,
                arrays,
                checkpoint,
                config.task,
                config.model,
                prepared.stop_words,
                precision,
                threshold=result.threshold,
            )
        mlflow.log_metric("package/max_difference", check_parity(folders["float32"], rows, outputs))
        said = {name: outputs_of(folder, config.task, validation.rows) for name, folder in folders.items()}
        chosen = settle_precision(config, said, validation.labels)
        if chosen != "float32":
            mlflow.log_metric("parity/dev_max_difference", largest_difference(folders[chosen], rows, outputs))
        write_profile(folders[chosen], profile_of_outputs(validation.encoded, said[chosen], config.task))
        mlflow.log_metric("package/bytes", size_of(folders[chosen]))
        log_package(folders[chosen], config.task, rows.head(5), result.best_epoch)


def settle_precision(config: TrainConfig, outputs: Mapping[Precision, Array], labels: Array) -> Precision:
    """Compare what the packages say about validation, log what int8 costs, and choose."""
    cost = measure_quantization(config.task, labels, outputs["float32"], outputs["int8"])
    mlflow.log_metrics({f"parity/{name}": value for name, value in asdict(cost).items()})
    chosen = choose_precision(cost, config.scoring)
    mlflow.set_tag("model.precision", chosen)
    say(
        f"packaged in {chosen}: on the validation split int8 has {config.task.metric} {cost.int8:.4f}, "
        f"float32 {cost.float32:.4f} (flips: {cost.flips:.4f})"
    )
    return chosen


def publish(config: TrainConfig, evaluation: Evaluation, result: FitResult, *, registered: bool) -> None:
    """Write the model's card, register it, describe the run, and show the result."""
    task, run_id = config.task, active_run_id()
    mlflow.log_text(model_card(config, evaluation, mlflow.get_run(run_id)), CARD)
    lines = {"checkpoint": config.model.name, "epoch kept": str(result.best_epoch)}
    if registered:
        version, aliases = register_run(run_id, config.registry.name, task.headline)
        lines["registered"] = f"{config.registry.name} version {version} (@{', @'.join(aliases)})"
    mlflow.set_tag("mlflow.note.content", describe_run(lines, evaluation, task, config.evaluation.confidence))
    show_evaluation(evaluation, task, config.evaluation.confidence)
    if registered:
        say(f"registered {lines['registered']}")
