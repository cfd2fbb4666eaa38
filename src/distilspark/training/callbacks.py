"""Keras callbacks: validation by the project's own metrics, reports as they happen, a progress bar."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from distilspark.console import format_metrics, progress_bar, say
from distilspark.errors import WorkError
from distilspark.features.encoding import Encoded
from distilspark.heads import Head
from distilspark.training.prediction import Predictor

Report = Callable[[int, dict[str, float]], None]


class Validation(keras.callbacks.Callback):  # type: ignore[misc]
    """After each epoch: `val/loss` and `val/METRIC` for every metric of the head, put into the epoch's logs.

    Must come before the callbacks that read them. `rescale` turns outputs back to the labels' own scale.
    """

    def __init__(
        self,
        predictor: Predictor,
        encoded: Encoded,
        labels: NDArray[np.float64],
        head: Head,
        rescale: Callable[[NDArray[Any]], NDArray[Any]],
        loss: Callable[[NDArray[Any]], float],
    ) -> None:
        """`loss` takes raw outputs (n, units)."""
        super().__init__()
        self.predictor, self.encoded, self.labels, self.head = predictor, encoded, labels, head
        self.rescale, self.loss = rescale, loss

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Evaluate the validation split."""
        raw = self.predictor.raw_outputs(self.encoded)
        if not np.isfinite(raw).all():
            raise WorkError(
                f"the network's outputs are NaN or infinite after epoch {epoch + 1}: lower training.learning_rate"
            )
        logs["val/loss"] = self.loss(raw)
        metrics = self.head.compute_metrics(self.labels, self.head.activate(self.rescale(raw)))
        logs.update({f"val/{name}": value for name, value in metrics.items()})
        gc.collect()


class BestEpoch(keras.callbacks.EarlyStopping):  # type: ignore[misc]
    """Keras's early stopping for a training that may take several calls of `fit`: its state outlives them."""

    def __init__(self, monitor: str, mode: str, patience: int) -> None:
        """`restore` gives the network the best weights, once all is done."""
        super().__init__(monitor=monitor, mode=mode, patience=patience, restore_best_weights=True)
        super().on_train_begin()

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Keep the state."""

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Keep the weights: `fit` may go on."""

    def restore(self, network: keras.Model) -> None:
        """Give the network the weights of the best epoch."""
        network.set_weights(self.best_weights)

    def state(self) -> dict[str, Any]:
        """All of it but the best weights."""
        best = None if self.best is None else float(self.best)
        return {"wait": self.wait, "stopped_epoch": self.stopped_epoch, "best": best, "best_epoch": self.best_epoch}

    def set_state(self, state: dict[str, Any], best_weights: list[NDArray[Any]]) -> None:
        """What `state` gave; no weights before the first epoch's end."""
        for name, value in state.items():
            setattr(self, name, value)
        self.best_weights = best_weights or None


class Reporter(keras.callbacks.Callback):  # type: ignore[misc]
    """Hands each epoch's metrics on as they happen, and shows them; must come after `Validation`."""

    def __init__(self, report: Report, epochs: int, steps: int, shown: tuple[str, ...]) -> None:
        """`report(epoch, metrics)` counts epochs from 1; `shown`: what is printed, and in which order."""
        super().__init__()
        self.report, self.epochs, self.steps, self.shown = report, epochs, steps, shown
        self.history: list[dict[str, float]] = []
        self.progress = progress_bar()
        self.started: float | None = None
        self.seconds_before = 0.0  # of the next epoch, before it was broken off

    def resume(self, history: list[dict[str, float]], seconds: float) -> None:
        """Go on after the epochs of `history`, and `seconds` into the next one; reports what may not be known yet."""
        self.history, self.seconds_before = history, seconds
        for row in history:
            self.report(int(row["epoch"]), {name: value for name, value in row.items() if name != "epoch"})

    def seconds(self) -> float:
        """What the running epoch has taken."""
        return time.perf_counter() - self.started if self.started else 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """A fresh bar for the epoch."""
        self.started, self.seconds_before = time.perf_counter() - self.seconds_before, 0.0
        self.bar = self.progress.add_task(f"epoch {epoch + 1}/{self.epochs}", total=self.steps)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Advance the bar."""
        loss = (logs or {}).get("loss", float("nan"))
        self.progress.update(self.bar, advance=1, description=f"epoch {self._epoch()}/{self.epochs}  loss {loss:.4f}")

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Hand the epoch's metrics on."""
        metrics = {"train/loss": float(logs["loss"])}
        metrics |= {name: float(value) for name, value in logs.items() if name.startswith(("val/", "time/"))}
        metrics["time/epoch"], self.started = self.seconds(), None
        self.history.append({"epoch": epoch + 1, **metrics})
        self.progress.remove_task(self.bar)
        self.report(epoch + 1, metrics)
        tell_epoch(epoch + 1, self.epochs, metrics, self.shown)

    def _epoch(self) -> int:
        return len(self.history) + 1


def tell_epoch(epoch: int, epochs: int, metrics: dict[str, float], shown: tuple[str, ...]) -> None:
    """An epoch's result in a line; epochs count from 1."""
    values = {name: metrics[name] for name in shown}
    say(f"epoch {epoch}/{epochs}  {format_metrics(values)}  ({metrics['time/epoch']:.0f} s)")
