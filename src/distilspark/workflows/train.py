"""`train`: fine-tune a network on a task, evaluate it on dev, package and register it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import keras
import mlflow
import pandas as pd
from tokenizers import Tokenizer

from distilspark.background_session import BackgroundSession
from distilspark.config import DEFAULT_THRESHOLD, Precision, TrainConfig
from distilspark.console import print_line, set_prefix, working
from distilspark.corpus.sample import check_pretraining, check_unlabelled
from distilspark.drift.profile import profile_of_outputs
from distilspark.evaluation.plots import history_plot
from distilspark.evaluation.predictions import Array, Predictions
from distilspark.evaluation.report import Evaluation, evaluate
from distilspark.evaluation.threshold import tune_threshold
from distilspark.features.encoding import load_tokenizer
from distilspark.model.checkpoints import fetch
from distilspark.model.network import check_layers, export_arrays
from distilspark.package.build import (
    GRAPHS,
    check_parity,
    largest_difference,
    log_package,
    outputs_of,
    size_of,
    write_package,
    write_profile,
)
from distilspark.package.quantization import choose_precision, measure_quantization
from distilspark.tracking.model_card import CARD, model_card
from distilspark.tracking.registry import register_run
from distilspark.tracking.results import describe_run, epoch_log, log_evaluation, log_figures, log_predictions
from distilspark.tracking.runs import active_experiment_id, active_run_id, drop_earlier_models, log_once, timed
from distilspark.tracking.signatures import check_signing_key
from distilspark.tracking.sweeps import find_job
from distilspark.tracking.views import save_experiment_view
from distilspark.training.batches import join
from distilspark.training.checkpoint.state import CheckpointOptions, TrainedState, assign_variables, weights_digest
from distilspark.training.checkpoint.store import CheckpointFolder, interrupted_run_id, open_checkpoints
from distilspark.training.loop import (
    FitResult,
    TrainingData,
    build_initial_network,
    fit,
    fit_steps,
    load_trained_state,
)
from distilspark.training.prediction import Predictor
from distilspark.training.pretraining import pretrain
from distilspark.training.targets import make_target_transform
from distilspark.training.threshold import fold_threshold
from distilspark.workflows.composition import overrides, shares_terminal, sweep_parent
from distilspark.workflows.distillation import add_teacher_outputs, loaded_teacher
from distilspark.workflows.distributed import train_on_workers
from distilspark.workflows.preparation import PreparedData, Split, prepare_data
from distilspark.workflows.reporting import show_evaluation
from distilspark.workflows.runner import Context, Job, Outcome


@contextmanager
def prepare(config: TrainConfig, context: Context) -> Iterator[Job]:
    """Yield the training; in a sweep it is a child run, and the sweep registers the best job."""
    assert context.session
    check_pretraining(config.task.name, config.training.pretraining.rows)
    check_unlabelled(config.task.name, config.data.unlabelled)
    session, folder = context.session, context.log.parent
    job = find_job(sweep_parent(), overrides())
    if job is None:
        check_signing_key(config.registry)
    own = job.name if job else f"seed {config.training.seed}"
    set_prefix(own if shares_terminal() else None)
    with open_checkpoints(config) as checkpoints:

        def work() -> Outcome:
            fine_tune(config, session, folder, checkpoints, registered=job is None)
            return Outcome(save_experiment_view(active_experiment_id(), config.task.headline) if job is None else "")

        yield Job(
            title=f"{config.task.title}: {config.model.name}, {config.training.epochs} epochs, {own}",
            experiment=f"distilspark-{config.task.name}",
            run_name=f"{config.task.name} {config.model.name} {own}",
            work=work,
            tags={"task": config.task.name, "model.checkpoint": config.model.name, **(job.tags if job else {})},
            interrupted=interrupted_run_id(checkpoints),
            parent=job.parent if job else None,
        )


def fine_tune(
    config: TrainConfig,
    session: BackgroundSession,
    folder: Path,
    checkpoint_folder: CheckpointFolder | None,
    *,
    registered: bool,
) -> None:
    """Load, fine-tune, evaluate, log and register, inside the active run.

    Args:
        config: of `train`.
        session: it is stopped once the data is read.
        folder: for temporary files.
        checkpoint_folder: holds the checkpoints of an interrupted training and of this one.
        registered: whether to register the model.

    """
    with timed("checkpoint"):
        checkpoint = fetch(config.model)
        check_layers(checkpoint, config.model.reinitialize_layers, config.model.freeze)
        tokenizer = load_tokenizer(checkpoint)
    data = read_data(config, session, tokenizer, folder)
    checkpoints = checkpoint_options(config, checkpoint_folder, data.digest)
    start = starting_checkpoint(config, checkpoint)
    trained = None
    if config.training.workers > 1:
        with timed("workers"):
            trained = train_on_workers(config, data.training_rows, data.target, checkpoints, start)
    session.stop()
    network, dev = build_initial_network(config, start), data.splits["dev"]
    initial = [variable.numpy().copy() for variable in network.variables] if config.training.refit else []
    with timed("train"):
        result = train(config, network, data, checkpoints, trained)
    if config.training.refit:
        result = replace(result, precision=precision_before_refit(config, network, checkpoint, data, result))
        assign_variables(network.variables, initial)
        with timed("refit"):
            refit(config, network, data, result, checkpoint_folder)
    with timed("predict", rows=len(dev.rows)):
        predictions = predict(config, network, dev)
    with timed("evaluate"), working("drawing plots and intervals"):
        evaluation = evaluate_dev(config, predictions, data.train_labels)
    log_predictions(predictions)
    log_evaluation(evaluation, config.task, result.best_step)
    with timed("package"), working("packaging the model"):
        package(config, network, checkpoint, data, predictions, result)
    publish_model(config, evaluation, result, registered=registered)


def read_data(config: TrainConfig, session: BackgroundSession, tokenizer: Tokenizer, folder: Path) -> PreparedData:
    """Prepare the data, with a teacher's predictions if there is one."""
    with loaded_teacher(config) as teacher:
        with timed("data"), working("reading, checking and profiling the data in Spark"):
            data = prepare_data(config, session.wait(), tokenizer, folder, teacher.texts if teacher else None)
        if teacher is None:
            return data
        with timed("teacher"):
            return add_teacher_outputs(teacher, config, data)


def starting_checkpoint(config: TrainConfig, checkpoint: Path) -> Path:
    """Return the checkpoint that fine-tuning starts from: the given one, or one pretrained from it."""
    if not (rows := config.training.pretraining.rows):
        return checkpoint
    with timed("pretraining"):
        pretrained = pretrain(config, checkpoint)
    mlflow.set_tag("model.pretraining", f"{rows} generated rows, {pretrained.digest[:12]}")
    log_epoch = epoch_log(active_run_id(), "pretraining/train/loss")
    for epoch in pretrained.history:
        log_epoch(
            int(epoch["epoch"]), {f"pretraining/{name}": value for name, value in epoch.items() if name != "epoch"}
        )
    best = config.task.headline.best((epoch[f"val/{config.task.metric}"] for epoch in pretrained.history), float)
    print_line(f"starting from {pretrained.folder.name}: {config.task.metric} {best:.4f} on generated rows")
    return pretrained.folder


def checkpoint_options(
    config: TrainConfig, folder: CheckpointFolder | None, data_digest: str, part: str = ""
) -> CheckpointOptions | None:
    """Return the options of the active run's checkpoints; print and log the position that the training resumes from."""
    if folder is None:
        return None
    if folder.latest:
        after = f"{part}{folder.latest.state['after']}"
        print_line(f"resuming after {after}, from a checkpoint (training.resume=false starts over)")
        mlflow.set_tag("resumed.after", after)
    return CheckpointOptions(folder, str(config.training.checkpoint_every), active_run_id(), data_digest)


def train(
    config: TrainConfig,
    network: keras.Model,
    data: PreparedData,
    checkpoints: CheckpointOptions | None,
    trained: TrainedState | None,
) -> FitResult:
    """Fit `network` on train, or load the workers' result; choose epoch and threshold on validation, never on dev."""
    if trained:
        result = load_trained_state(network, trained, data.target)
    else:
        training_data = TrainingData(data.training_examples, data.splits["validation"].examples, data.target)
        result = fit(network, training_data, config, epoch_log(active_run_id()), checkpoints)
    log_training(config, network, result, rows=data.training_size)
    return replace(result, threshold=choose_threshold(config, network, data.splits["validation"]))


def precision_before_refit(
    config: TrainConfig, network: keras.Model, checkpoint: Path, data: PreparedData, result: FitResult
) -> Precision:
    """Choose the package's precision before the refit, with the network that was not trained on validation."""
    validation = data.splits["validation"]
    with tempfile.TemporaryDirectory() as scratch, working("choosing the precision"):
        folders = write_packages(Path(scratch), config, network, checkpoint, data, result)
        return choose_and_log_precision(config, score_packages(validation, folders, config), validation.labels)


def refit(
    config: TrainConfig,
    network: keras.Model,
    data: PreparedData,
    result: FitResult,
    checkpoint_folder: CheckpointFolder | None,
) -> None:
    """Train the initial network on train and validation, with the chosen epochs and threshold.

    Print the number of rows and the estimated seconds first. The metrics `val/*` stay those from before the refit.
    """
    examples = join(data.training_examples, data.splits["validation"].examples)
    target = make_target_transform(examples.labels, config.task, config.training)
    rows, last = len(examples.labels), max(result.kept_steps)
    seconds = result.history["time/epoch"].mean() * last * rows / data.training_size
    epochs = round(result.epochs_at(last), 2)
    print_line(f"refit: {epochs} epochs on {rows} rows, train and validation, in about {seconds:.0f} s")
    folder = checkpoint_folder.part("refit") if checkpoint_folder else None
    checkpoints = checkpoint_options(config, folder, data.digest, "the refit's ")
    log = epoch_log(active_run_id(), "refit/loss")

    def log_epoch(epoch: int, metrics: dict[str, float]) -> None:
        log(epoch, {"refit/loss": metrics["train/loss"]})

    fit_steps(network, examples, target, config, log_epoch, result.kept_steps, checkpoints)
    mlflow.set_tag("model.weights_sha256", weights_digest(network))
    if result.threshold != DEFAULT_THRESHOLD:
        fold_threshold(network, result.threshold)


def log_training(config: TrainConfig, network: keras.Model, result: FitResult, rows: int) -> None:
    """Log the trained weights' digest, the best epoch, the speed and the curves; `rows` are those of an epoch."""
    mlflow.set_tag("model.weights_sha256", weights_digest(network))
    metric = config.task.metric
    log_once(
        {
            "train/best_epoch": result.best_epoch,
            f"val/kept_{metric}": result.kept_metrics[f"val/{metric}"],
            "speed/train": rows * result.epochs_at(len(result.history)) / result.history["time/epoch"].sum(),
        }
    )
    mlflow.log_text(json.dumps(result.class_weights), "config/class_weights.json")
    log_figures({"history": history_plot(result.history, config.task.headline, result.best_epoch)}, "training")
    print_line(f"kept {result.kept}, the best on the validation split")


def choose_threshold(config: TrainConfig, network: keras.Model, validation: Split) -> float:
    """Return the decision threshold, tuned on validation if configured, and fold it into the network."""
    threshold, metric = config.training.threshold, config.task.metric
    if threshold == DEFAULT_THRESHOLD:
        return DEFAULT_THRESHOLD
    if threshold == "tuned":
        tuned_on = predict(config, network, validation)
        threshold = tune_threshold(tuned_on.labels, tuned_on.outputs[:, 1], config.task.headline)
    fold_threshold(network, threshold)
    decided = predict(config, network, validation)
    score = config.task.head_kind.compute_metrics(decided.labels, decided.outputs)[metric]
    log_once({"train/threshold": threshold, f"val/threshold_{metric}": score})
    print_line(
        f"{config.task.labels[1]} above a probability of {threshold:.4f}: {metric} {score:.4f} on the validation split"
    )
    return threshold


def predict(config: TrainConfig, network: keras.Model, split: Split) -> Predictions:
    """Predict a split with the network."""
    predictor = Predictor(network, config.evaluation.batch_tokens, config.training.bucket_width)
    return Predictions(split.rows, split.labels, config.task.head_kind.activate(predictor.raw_outputs(split.encoded)))


def evaluate_dev(config: TrainConfig, predictions: Predictions, train_labels: pd.DataFrame) -> Evaluation:
    """Compute metrics, intervals, slices and plots on dev, and the baseline from the labels of train."""
    labels, sources = train_labels["label"].to_numpy(dtype=float), set(train_labels["source"].dropna())
    return evaluate(config.task, predictions, labels, sources, config.evaluation)


def package(
    config: TrainConfig,
    network: keras.Model,
    checkpoint: Path,
    data: PreparedData,
    predictions: Predictions,
    result: FitResult,
) -> None:
    """Package the network, check that the package has the network's outputs for every row of dev, and log it.

    The package holds a profile of its outputs for rows that it was not trained on: validation, or dev after a refit.
    Scoring compares its own rows with this profile.
    """
    rows, outputs = predictions.rows, predictions.outputs
    with tempfile.TemporaryDirectory() as scratch:
        folders = write_packages(Path(scratch), config, network, checkpoint, data, result)
        log_once({"package/max_difference": check_parity(folders["float32"], rows, outputs)})
        unseen = data.splits["validation"]
        scored = score_packages(unseen, folders, config)
        chosen = choose_and_log_precision(config, scored, unseen.labels, result.precision)
        if chosen != "float32":
            log_once({"parity/dev_max_difference": largest_difference(folders[chosen], rows, outputs)})
        if result.precision:
            unseen = data.splits["dev"]
            scored = score_packages(unseen, {chosen: folders[chosen]}, config)
        write_profile(folders[chosen], profile_of_outputs(unseen.encoded, scored[chosen], config.task))
        log_once({"package/bytes": size_of(folders[chosen])})
        drop_earlier_models()
        log_package(folders[chosen], config.task, rows.head(5), result.best_step)


def write_packages(
    scratch: Path, config: TrainConfig, network: keras.Model, checkpoint: Path, data: PreparedData, result: FitResult
) -> dict[Precision, Path]:
    """Write the network's package in every precision."""
    arrays = export_arrays(network)
    folders = {precision: scratch / precision / "scorer" for precision in GRAPHS}
    for precision, folder in folders.items():
        write_package(
            folder,
            arrays,
            checkpoint,
            config.task,
            config.model,
            data.stop_words,
            precision,
            threshold=result.threshold,
        )
    return folders


def score_packages(split: Split, folders: Mapping[Precision, Path], config: TrainConfig) -> dict[Precision, Array]:
    """Score a split with each package."""
    return {precision: outputs_of(folder, config.task, split.rows) for precision, folder in folders.items()}


def choose_and_log_precision(
    config: TrainConfig, outputs: Mapping[Precision, Array], labels: Array, before_refit: Precision | None = None
) -> Precision:
    """Choose the precision by the packages' outputs for validation, and log the cost of int8.

    After a refit, `before_refit` is the choice before it. The refit was trained on these rows. A network is more
    confident on its training rows, so int8 changes fewer of their labels: int8 must have been the choice before, too.
    """
    cost = measure_quantization(config.task, labels, outputs["float32"], outputs["int8"])
    part, seen = ("parity_refit", ", which the refit has seen,") if before_refit else ("parity", "")
    log_once({f"{part}/{name}": value for name, value in asdict(cost).items()})
    chosen = choose_precision(cost, config.scoring)
    chosen = chosen if before_refit in (None, chosen) else "float32"
    mlflow.set_tag("model.precision", chosen)
    print_line(
        f"packaged in {chosen}: on the validation split{seen} int8 has {config.task.metric} {cost.int8:.4f}, "
        f"float32 {cost.float32:.4f} (flips: {cost.flips:.4f})"
    )
    return chosen


def publish_model(config: TrainConfig, evaluation: Evaluation, result: FitResult, *, registered: bool) -> None:
    """Write the model's card, register it, describe the run, and print the result."""
    task, run_id = config.task, active_run_id()
    mlflow.log_text(model_card(config, evaluation, mlflow.get_run(run_id)), CARD)
    lines = {"checkpoint": config.model.name, "kept": result.kept}
    if registered:
        version, aliases = register_run(run_id, config.registry.name, task.headline, config.registry.signing_key)
        lines["registered"] = f"{config.registry.name} version {version} (@{', @'.join(aliases)})"
    mlflow.set_tag("mlflow.note.content", describe_run(lines, evaluation, task, config.evaluation.confidence))
    show_evaluation(evaluation, task, config.evaluation.confidence)
    if registered:
        print_line(f"registered {lines['registered']}")
