"""Keras callbacks: validation by the task's metrics, early stopping, reports and a progress bar, step times."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from distilspark.console import format_metrics, print_line, progress_bar
from distilspark.errors import WorkError
from distilspark.heads import Head
from distilspark.training.batches import Examples, TrainingBatches
from distilspark.training.prediction import Predictor

EpochLogger = Callable[[int, dict[str, float]], None]  # takes an epoch's number, from 1, and its metrics


class Validation(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that adds `val/loss` and `val/METRIC`, for every metric of the head, to each epoch's logs.

    Must come before the callbacks that read them.
    """

    def __init__(
        self,
        predictor: Predictor,
        examples: Examples,
        head: Head,
        rescale: Callable[[NDArray[Any]], NDArray[Any]],
        loss: Callable[[NDArray[Any]], float],
    ) -> None:
        """`rescale` converts outputs to the labels' own scale; `loss` takes raw outputs (n, units)."""
        super().__init__()
        self.predictor, self.examples, self.head = predictor, examples, head
        self.rescale, self.loss = rescale, loss

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Evaluate the validation split."""
        logs.update(self.evaluate(epoch))
        gc.collect()

    def evaluate(self, epoch: int) -> dict[str, float]:
        """Return loss and metrics of the network as it is; an error names the `epoch`, which counts from 0.

        Raises:
            WorkError: outputs are NaN or infinite.

        """
        raw = self.predictor.raw_outputs(self.examples.encoded)
        if not np.isfinite(raw).all():
            raise WorkError(
                f"the network's outputs are NaN or infinite at validation {epoch + 1}: lower training.learning_rate"
            )
        metrics = self.head.compute_metrics(self.examples.labels, self.head.activate(self.rescale(raw)))
        return {"val/loss": self.loss(raw)} | {f"val/{name}": value for name, value in metrics.items()}


class BestEpoch(keras.callbacks.EarlyStopping):  # type: ignore[misc]
    """Keras's early stopping with state that is kept over several calls of `fit`."""

    def __init__(self, monitor: str, mode: str, patience: int) -> None:
        """`mode` is `min` or `max`; `patience`: epochs without improvement."""
        super().__init__(monitor=monitor, mode=mode, patience=patience, restore_best_weights=True)
        super().on_train_begin()

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Do nothing: Keras would reset the state."""

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Do nothing, since another `fit` may follow."""

    def restore_best_weights_to(self, network: keras.Model) -> None:
        """Set the network's weights to those of the best epoch."""
        network.set_weights(self.best_weights)

    def saved_weights(self) -> list[NDArray[Any]]:
        """Return the best weights; nothing before the first epoch's end."""
        return self.best_weights or []

    def get_state(self) -> dict[str, Any]:
        """Return all state but the best weights."""
        best = None if self.best is None else float(self.best)
        return {"wait": self.wait, "stopped_epoch": self.stopped_epoch, "best": best, "best_epoch": self.best_epoch}

    def set_state(self, state: dict[str, Any], weights: list[NDArray[Any]]) -> None:
        """Restore the state and weights that `get_state` and `saved_weights` returned."""
        for name, value in state.items():
            setattr(self, name, value)
        self.best_weights = weights or None


class EpochReporter(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that logs and prints each epoch's metrics and shows a progress bar; must come after `Validation`.

    With validations inside epochs, each part of an epoch is reported like an epoch.
    """

    def __init__(
        self, log_epoch: EpochLogger, parts: int, batches: TrainingBatches, metric: str, title: str = "epoch"
    ) -> None:
        """`parts`: of the whole training; `metric`: the task's, which is printed; `title`: of an epoch."""
        super().__init__()
        self.log_epoch, self.parts, self.batches, self.metric, self.title = log_epoch, parts, batches, metric, title
        self.epochs = batches.epochs_after(parts)
        self.history: list[dict[str, float]] = []
        self.progress = progress_bar()
        self.started: float | None = None
        self.resumed_seconds = 0.0  # of an interrupted epoch, before the interruption

    def resume(self, history: list[dict[str, float]], seconds: float) -> None:
        """Continue after the epochs of `history`, `seconds` into the next one; the epochs are logged again."""
        self.history, self.resumed_seconds = history, seconds
        for number, row in enumerate(history, start=1):
            self.log_epoch(number, {name: value for name, value in row.items() if name != "epoch"})

    def elapsed_seconds(self) -> float:
        """Return the seconds of the running epoch; 0 between epochs."""
        return time.perf_counter() - self.started if self.started else 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock and a new bar."""
        self.started, self.resumed_seconds = time.perf_counter() - self.resumed_seconds, 0.0
        self.label = f"{self.title} {format_epochs(self.batches.epochs_after(epoch + 1), self.epochs)}"
        self.bar = self.progress.add_task(self.label, total=self.batches.steps_in(epoch))

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Advance the bar."""
        loss = (logs or {}).get("loss", float("nan"))
        self.progress.update(self.bar, advance=1, description=f"{self.label}  loss {loss:.4f}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Log and print the epoch's metrics."""
        metrics = {"train/loss": float(logs["loss"])}
        metrics |= {name: float(value) for name, value in logs.items() if name.startswith(("val/", "time/"))}
        metrics["time/epoch"], self.started = self.elapsed_seconds(), None
        done = self.batches.epochs_after(epoch + 1)
        self.history.append({"epoch": done, **metrics})
        self.progress.remove_task(self.bar)
        self.log_epoch(epoch + 1, metrics)
        print_epoch(done, self.epochs, metrics, self.metric, self.title)


class StepTimer(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that adds the median seconds of an epoch's steps to its logs, as `time/step`."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Reset the step times."""
        self.seconds: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self.started)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Add the median to the logs."""
        logs["time/step"] = float(np.median(self.seconds))


def print_epoch(epoch: float, epochs: float, metrics: dict[str, float], metric: str, title: str = "epoch") -> None:
    """Print an epoch's losses and the task's metric, if present, in one line; epochs count from 1."""
    values = {name: metrics[name] for name in ("train/loss", "val/loss", f"val/{metric}") if name in metrics}
    print_line(f"{title} {format_epochs(epoch, epochs)}  {format_metrics(values)}  ({metrics['time/epoch']:.0f} s)")


def format_epochs(epoch: float, epochs: float) -> str:
    """Format the numbers of finished and of all epochs.

    >>> format_epochs(2, 3), format_epochs(4 / 3, 3)
    ('2/3', '1.33/3')
    """
    return f"{round(epoch, 2)}/{round(epochs, 2)}"
