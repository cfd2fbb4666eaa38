"""All the state that a training has, taken out of it and put back: what goes on is what would have been."""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from distilspark.console import say
from distilspark.errors import UserError
from distilspark.training.batches import TrainingBatches
from distilspark.training.callbacks import BestEpoch, Reporter
from distilspark.training.checkpointing import Checkpoint, CheckpointFolder


@dataclass(frozen=True)
class Checkpoints:
    """Where checkpoints go, how often, and what they belong to."""

    folder: CheckpointFolder
    every: str  # "N steps" or "N seconds"
    run_id: str  # MLflow's
    data: str  # a digest of the rows


@dataclass(frozen=True)
class Position:
    """Where a training is: epochs that are done, and steps of the next one."""

    epoch: int
    step: int

    def legs(self, epochs: int) -> list[tuple[int, int]]:
        """What is left, as the first epoch and the one after the last of each `fit`: a broken epoch has its own.

        >>> Position(0, 0).legs(3), Position(1, 7).legs(3), Position(2, 7).legs(3), Position(3, 0).legs(3)
        ([(0, 3)], [(1, 2), (2, 3)], [(2, 3)], [])
        """
        borders = [self.epoch, *([self.epoch + 1] if self.step else []), epochs]
        return [(first, last) for first, last in pairwise(borders) if first < last]


class Clock:
    """Tells when a checkpoint is due."""

    def __init__(self, every: str) -> None:
        """`every`: "N steps" or "N seconds"."""
        amount, self.unit = every.split()
        self.amount = int(amount)
        self.restart()

    def restart(self) -> None:
        """Count from here."""
        self.steps, self.started = 0, time.monotonic()

    def is_due(self) -> bool:
        """Count a step; whether that makes it due."""
        self.steps += 1
        return {"steps": self.steps, "seconds": time.monotonic() - self.started}[self.unit] >= self.amount


class Checkpointer(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps checkpoints; must come last, when the other callbacks have their state."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        batches: TrainingBatches,
        reporter: Reporter,
        stopping: BestEpoch,
        keeps: bool = True,
    ) -> None:
        """`keeps`: whether it writes any; who does not can still go on from another's."""
        super().__init__()
        self.keeps = keeps
        self.checkpoints, self.clock = checkpoints, Clock(checkpoints.every)
        self.batches, self.reporter, self.stopping = batches, reporter, stopping
        self.resumed = Position(0, 0)
        self.running: list[NDArray[Any]] = []  # the metrics of the epoch that was broken off

    def resume(self, network: keras.Model) -> Position:
        """Put the checkpoint that was found into all that has state; where the training is then.

        Raises:
            UserError: the checkpoint's training started from something else.

        """
        network.optimizer.build(network.trainable_variables)
        self.origin = origin_of(network, self.checkpoints.data)
        if not (found := self.checkpoints.folder.found):
            return self.resumed
        state, arrays = found.state, found.arrays()
        if state["origin"] != self.origin:
            raise UserError(
                "training.resume=true: the interrupted training had other rows, another checkpoint or another version "
                "of TensorFlow or Keras. Set training.resume=false to start anew"
            )
        _assign(network.variables, _group(arrays, "network"))
        _assign(network.optimizer.variables, _group(arrays, "optimizer"))
        self.running = _group(arrays, "metrics")
        self.stopping.set_state(state["stopping"], _group(arrays, "best"))
        self.reporter.resume(state["history"], state["seconds"])
        self.resumed = Position(**state["position"])
        self.batches.go_to(self.resumed.epoch, self.resumed.step)
        return self.resumed

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Give an epoch that was broken off the running mean of its loss, which Keras has just reset."""
        self.epoch, self.done = epoch, 0
        if self.resumed.step and epoch == self.resumed.epoch:
            self.done = self.resumed.step
            _assign(self.model.metrics_variables, self.running)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Keep a checkpoint where one is due; the one after the epoch's last step is kept at its end."""
        self.done += 1
        if self.clock.is_due() and self.done < len(self.batches):
            self._save(Position(self.epoch, self.done), f"epoch {self.epoch + 1}, step {self.done}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Keep a checkpoint; that of a training that stops here has nothing left to do."""
        done = self.reporter.epochs if self.model.stop_training else epoch + 1
        self._save(Position(done, 0), f"epoch {epoch + 1}")

    def _save(self, position: Position, after: str) -> None:
        self.clock.restart()
        if not self.keeps:
            return
        groups = {
            "network": self.model.variables,
            "optimizer": self.model.optimizer.variables,
            "metrics": self.model.metrics_variables,
            "best": self.stopping.best_weights or [],
        }
        arrays = {f"{name}/{n}": np.asarray(each) for name, group in groups.items() for n, each in enumerate(group)}
        state = {
            "run": self.checkpoints.run_id,
            "origin": self.origin,
            "position": asdict(position),
            "after": after,
            "stopping": self.stopping.state(),
            "history": self.reporter.history,
            "seconds": self.reporter.seconds(),
        }
        try:
            self.checkpoints.folder.save(arrays, state)
        except OSError as error:
            folder, reason = self.checkpoints.folder.path.parent, error.strerror or error
            say(f"no checkpoint after {after}: {folder} cannot be written ({reason}); training goes on without it")


@dataclass(frozen=True)
class Outcome:
    """What a training came to, as its last checkpoint has it."""

    best_weights: list[NDArray[Any]]
    best_epoch: int  # counts from 0
    history: list[dict[str, float]]


def outcome_of(last: Checkpoint) -> Outcome:
    """The outcome that the checkpoint of a training that has ended holds."""
    state = last.state
    return Outcome(_group(last.arrays(), "best"), int(state["stopping"]["best_epoch"]), state["history"])


def origin_of(network: keras.Model, data: str) -> str:
    """A sha256 over what decides a training beside its config: its first weights, its rows, the versions."""
    versions = [importlib.metadata.version(package) for package in ("tensorflow", "keras", "keras-hub")]
    return hashlib.sha256(" ".join([weights_digest(network), data, *versions]).encode()).hexdigest()


def weights_digest(network: keras.Model) -> str:
    """A sha256 over all weights, bit by bit."""
    digest = hashlib.sha256()
    for variable in network.weights:
        digest.update(np.ascontiguousarray(variable).data)
    return digest.hexdigest()


def _group(arrays: dict[str, NDArray[Any]], name: str) -> list[NDArray[Any]]:
    count = sum(key.startswith(f"{name}/") for key in arrays)
    return [arrays[f"{name}/{number}"] for number in range(count)]


def _assign(variables: Iterable[Any], values: list[NDArray[Any]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
