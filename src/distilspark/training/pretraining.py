"""Pretraining on rows that the corpus's grammar generates; its result is a checkpoint in the user's cache.

The rows and the training depend on `data.seed`, not on `training.seed`: all seeds of a fine-tuning start from the same
checkpoint. Its folder holds the encoder, the head and a record of the inputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from distilspark.cache import cached_folder
from distilspark.config import DEFAULT_THRESHOLD, TrainConfig, flatten
from distilspark.console import print_line
from distilspark.corpus.sample import GRAMMAR_VERSION, pretraining_rows
from distilspark.errors import UserError
from distilspark.features.encoding import encode, load_tokenizer
from distilspark.model.checkpoints import RECORD, file_digest
from distilspark.model.conversion import WEIGHTS, copy_tokenizer, read_config, write_checkpoint
from distilspark.model.network import export_arrays
from distilspark.training.batches import Examples
from distilspark.training.loop import TrainingData, build_initial_network, fit
from distilspark.training.targets import make_target_transform

VALIDATION_ROWS = 1000  # generated in addition: for the metric, and to choose the best of several epochs
# model settings that pretraining depends on, besides the checkpoint, which has only the chosen layers
MODEL_SETTINGS = ("pooling", "dropout", "max_length", "reinitialize_layers")
# `training.*` settings that pretraining does not depend on
UNRELATED_SETTINGS = (
    "training.pretraining.keep_head",
    "training.validate_every",
    "training.teacher",
    "training.distillation.",
)


@dataclass(frozen=True)
class Pretrained:
    """A pretrained checkpoint."""

    folder: Path  # in DistilBERT's layout, with the head
    digest: str  # of the inputs
    history: list[dict[str, float]]  # one entry an epoch: epoch, train/loss, val/*, time/epoch


def pretrain(config: TrainConfig, checkpoint: Path) -> Pretrained:
    """Return the checkpoint that is pretrained from `checkpoint`; train it if the cache does not have it.

    A damaged one is trained again. If two processes need the same one, the second waits for the first.

    Raises:
        UserError: the cache cannot be written.
        WorkError: the outputs became NaN or infinite.

    """
    settings = _pretraining_config(config)
    rows = config.training.pretraining.rows
    made_from = _describe_inputs(settings, rows, checkpoint)
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    name = f"checkpoints/{checkpoint.name}-{config.task.name}-{rows}rows-{digest[:12]}"
    folder = cached_folder(name, partial(_build, settings, rows, checkpoint, made_from), _is_intact)
    return Pretrained(folder, digest, json.loads((folder / RECORD).read_text())["history"])


def _pretraining_config(config: TrainConfig) -> TrainConfig:
    """Return the config of pretraining: the fine-tuning's, with settings that it does not depend on reset."""
    change: Callable[..., Any] = replace  # mypy does not see that configs are dataclasses
    chosen = config.training.pretraining
    training = change(
        config.training,
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        learning_rate=chosen.learning_rate,
        standardize_labels=False,
        class_weights="off",
        threshold=DEFAULT_THRESHOLD,
        averaging="off",
        ema_decay=0.5,  # unused without averaging
        layer_decay=1.0,
        validate_every=None,
        teacher=None,
        refit=False,
        early_stopping=change(config.training.early_stopping, monitor="metric", patience=chosen.epochs),
        pretraining=change(chosen, rows=0),
        seed=config.data.seed,
        workers=1,
        resume=False,
        checkpoint_every=None,
        checkpoints=None,
    )
    first: TrainConfig = change(config, training=training)
    return first


def _describe_inputs(settings: TrainConfig, rows: int, checkpoint: Path) -> dict[str, Any]:
    """Return all that the result depends on; includes new keys of `training.*` unless `UNRELATED_SETTINGS` has them."""
    model = {f"model.{name}": getattr(settings.model, name) for name in MODEL_SETTINGS}
    if settings.model.freeze:  # left out if empty: earlier versions wrote checkpoints without the key
        model["model.freeze"] = settings.model.freeze
    training = flatten(settings.training, "training")
    if settings.training.precision == "float32":  # as above
        del training["training.precision"]
    return {
        "checkpoint": f"{checkpoint.name} {file_digest(checkpoint / WEIGHTS)}",
        "grammar": GRAMMAR_VERSION,
        "rows": rows,
        "task": [settings.task.name, settings.task.head, settings.task.metric],
        **model,
        **{name: value for name, value in training.items() if not name.startswith(UNRELATED_SETTINGS)},
    }


def _is_intact(folder: Path) -> bool:
    try:
        record = json.loads((folder / RECORD).read_text())
        return bool(record["history"]) and file_digest(folder / WEIGHTS) == record["sha256"]
    except (OSError, ValueError, KeyError, UserError):
        return False


def _build(settings: TrainConfig, rows: int, checkpoint: Path, made_from: dict[str, Any], target: Path) -> None:
    epochs = settings.training.epochs
    print_line(f"pretraining: {rows} generated rows, {epochs} epoch{'s' * (epochs > 1)}, kept in the cache")
    network = build_initial_network(settings, checkpoint)
    result = fit(network, _generate(settings, rows, checkpoint), settings, lambda epoch, metrics: None)
    write_checkpoint(target, read_config(checkpoint), export_arrays(network), str(target), with_head=True)
    copy_tokenizer(checkpoint, target)
    history = result.history.to_dict("records")
    record = {"sha256": file_digest(target / WEIGHTS), "made_from": made_from, "history": history}
    (target / RECORD).write_text(json.dumps(record, indent=2) + "\n")


def _generate(settings: TrainConfig, rows: int, checkpoint: Path) -> TrainingData:
    """Generate and encode rows; the last ones are the validation split's."""
    generated = pretraining_rows(settings.task.name, rows + VALIDATION_ROWS, settings.data.seed)
    tokenizer = load_tokenizer(checkpoint)

    def examples(part: slice) -> Examples:
        second = generated.sentence2 and generated.sentence2[part]
        encoded = encode(tokenizer, generated.sentence1[part], second, settings.model.max_length)
        return Examples(encoded, np.array(generated.labels[part]))

    train = examples(slice(rows))
    target = make_target_transform(train.labels, settings.task, settings.training)
    return TrainingData(train, examples(slice(rows, None)), target)
