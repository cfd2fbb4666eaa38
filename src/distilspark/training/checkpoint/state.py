"""Save and restore the full training state, so that a resumed training ends with bit-identical weights."""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from distilspark.console import print_line
from distilspark.errors import UserError
from distilspark.training.batches import TrainingBatches
from distilspark.training.callbacks import EpochReporter
from distilspark.training.checkpoint.store import Checkpoint, CheckpointFolder


@dataclass(frozen=True)
class CheckpointOptions:
    """The folder and interval of checkpoints, and the run and data that they belong to."""

    folder: CheckpointFolder
    every: str  # "N steps" or "N seconds"
    run_id: str  # MLflow's
    data_digest: str  # of the rows


@dataclass(frozen=True)
class Position:
    """The number of finished epochs, and of steps in the next one."""

    epoch: int
    step: int

    def __str__(self) -> str:
        """Return a readable name of the position.

        >>> str(Position(2, 0)), str(Position(2, 7))
        ('epoch 2', 'epoch 3, step 7')
        """
        return f"epoch {self.epoch + 1}, step {self.step}" if self.step else f"epoch {self.epoch}"


class Keeper(Protocol):
    """The callback that keeps the weights with which a training ends."""

    def get_state(self) -> dict[str, Any]:
        """Return all state but weights, as JSON values."""

    def saved_weights(self) -> list[NDArray[Any]]:
        """Return all weights of the state."""

    def set_state(self, state: dict[str, Any], weights: list[NDArray[Any]]) -> None:
        """Restore the state and weights that `get_state` and `saved_weights` returned."""

    def restore_best_weights_to(self, network: keras.Model) -> None:
        """Set the network's weights to the kept ones."""


class CheckpointTimer:
    """A counter of the steps or seconds since the last checkpoint."""

    def __init__(self, every: str) -> None:
        """`every`: "N steps" or "N seconds"."""
        amount, self.unit = every.split()
        self.amount = int(amount)
        self.restart()

    def restart(self) -> None:
        """Count from 0 again."""
        self.steps, self.started = 0, time.monotonic()

    def count_step(self) -> bool:
        """Count a step, and return True if a checkpoint is due."""
        self.steps += 1
        return {"steps": self.steps, "seconds": time.monotonic() - self.started}[self.unit] >= self.amount


class CheckpointSaver(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that writes checkpoints and restores the latest; must come last, since it saves callbacks' state."""

    def __init__(
        self,
        options: CheckpointOptions,
        batches: TrainingBatches,
        reporter: EpochReporter,
        keeper: Keeper,
        writes: bool = True,
    ) -> None:
        """`writes=False` for a process that restores the checkpoints of another one and writes none."""
        super().__init__()
        self.options, self.timer, self.writes = options, CheckpointTimer(options.every), writes
        self.batches, self.reporter, self.keeper = batches, reporter, keeper
        self.start = Position(0, 0)
        self.interrupted_metrics: list[NDArray[Any]] = []  # Keras's running means of the interrupted epoch

    def restore(self, network: keras.Model) -> Position:
        """Restore the latest checkpoint, if there is one, and return the position to continue from.

        Raises:
            UserError: the checkpoint's training had another initial state.

        """
        network.optimizer.build(network.trainable_variables)
        self.origin = initial_state_digest(network, self.options.data_digest)
        if not (latest := self.options.folder.latest):
            return self.start
        state, arrays = latest.state, latest.arrays()
        if state.get("origin") != self.origin:
            raise UserError(
                "training.resume=true: the interrupted training had other rows, another teacher, another checkpoint or "
                "another version of TensorFlow or Keras. Set training.resume=false to start over"
            )
        assign_variables(network.variables, _group(arrays, "network"))
        assign_variables(network.optimizer.variables, _group(arrays, "optimizer"))
        self.interrupted_metrics = _group(arrays, "metrics")
        self.keeper.set_state(state["stopping"], _group(arrays, "best"))
        self.reporter.resume(state["history"], state["seconds"])
        self.start = Position(**state["position"])
        self.batches.seek(self.start.epoch, self.start.step)
        return self.start

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Restore the running means of an interrupted epoch, which Keras has just reset."""
        self.part, self.steps_done = epoch, 0
        interrupted, steps_done = self.batches.part_at(self.start.epoch, self.start.step)
        if steps_done and epoch == interrupted:
            self.steps_done = steps_done
            assign_variables(self.model.metrics_variables, self.interrupted_metrics)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Write a checkpoint if one is due; after an epoch's last step, `on_epoch_end` writes it."""
        self.steps_done += 1
        if self.timer.count_step() and self.steps_done < self.batches.steps_in(self.part):
            epoch, first = self.batches.start_of(self.part)
            done = Position(epoch, first + self.steps_done)
            self._save(done, done)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write a checkpoint; if training stops here, its position is the end."""
        done = Position(*self.batches.start_of(epoch + 1))
        end = Position(*self.batches.start_of(self.reporter.parts))
        self._save(end if self.model.stop_training else done, done)

    def _save(self, position: Position, after: Position) -> None:
        self.timer.restart()
        if not self.writes:
            return
        try:
            self.options.folder.save(self._arrays(), self._state(position, after))
        except OSError as error:
            folder, reason = self.options.folder.path.parent, error.strerror or error
            print_line(
                f"no checkpoint after {after}: {folder} cannot be written ({reason}); training continues without it"
            )

    def _arrays(self) -> dict[str, NDArray[Any]]:
        groups = {
            "network": self.model.variables,
            "optimizer": self.model.optimizer.variables,
            "metrics": self.model.metrics_variables,
            "best": self.keeper.saved_weights(),
        }
        return {f"{name}/{n}": np.asarray(each) for name, group in groups.items() for n, each in enumerate(group)}

    def _state(self, position: Position, after: Position) -> dict[str, Any]:
        return {
            "run": self.options.run_id,
            "origin": self.origin,
            "position": asdict(position),
            "after": str(after),
            "stopping": self.keeper.get_state(),
            "history": self.reporter.history,
            "seconds": self.reporter.elapsed_seconds(),
        }


@dataclass(frozen=True)
class TrainedState:
    """Best weights and history of a finished training."""

    best_weights: list[NDArray[Any]]
    stopping: dict[str, Any]  # state of early stopping
    history: list[dict[str, float]]


def read_trained_state(last: Checkpoint) -> TrainedState:
    """Read the result of a training from its last checkpoint."""
    state = last.state
    return TrainedState(_group(last.arrays(), "best"), state["stopping"], state["history"])


def initial_state_digest(network: keras.Model, data_digest: str) -> str:
    """Return a sha256 over the initial weights, the rows and the libraries' versions.

    With the config they determine the final weights.
    """
    versions = [importlib.metadata.version(package) for package in ("tensorflow", "keras", "keras-hub")]
    return hashlib.sha256(" ".join([weights_digest(network), data_digest, *versions]).encode()).hexdigest()


def weights_digest(network: keras.Model) -> str:
    """Return a sha256 over all weights, bit by bit."""
    digest = hashlib.sha256()
    for variable in network.weights:
        digest.update(np.ascontiguousarray(variable).data)
    return digest.hexdigest()


def _group(arrays: dict[str, NDArray[Any]], name: str) -> list[NDArray[Any]]:
    count = sum(key.startswith(f"{name}/") for key in arrays)
    return [arrays[f"{name}/{number}"] for number in range(count)]


def assign_variables(variables: Iterable[Any], values: list[NDArray[Any]]) -> None:
    """Assign each variable its value."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
