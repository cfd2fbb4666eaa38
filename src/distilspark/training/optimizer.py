"""Adam and AdamW with warm-up and decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from distilspark.config import TrainingConfig


class LinearWarmup(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A rate that rises linearly over the warm-up, then falls linearly to zero, or stays (Mosbach et al. 2021)."""

    def __init__(self, peak: float, warmup_steps: int, total_steps: int, decay: bool) -> None:
        """Rates are those of step 0, 1, ...: the first is `peak / warmup_steps`, never zero."""
        self.peak, self.warmup_steps, self.total_steps, self.decay = peak, warmup_steps, total_steps, decay

    def __call__(self, step: Any) -> Any:
        """Return the rate of a step; steps count from 0."""
        step = tf.cast(step, tf.float32)
        rising = (step + 1.0) / max(1, self.warmup_steps)
        falling = (self.total_steps - step) / max(1, self.total_steps - self.warmup_steps) if self.decay else 1.0
        return self.peak * tf.minimum(1.0, tf.minimum(rising, tf.maximum(falling, 0.0)))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {name: getattr(self, name) for name in ("peak", "warmup_steps", "total_steps", "decay")}


def sum_rows(gradient: Any) -> Any:
    """Sum the entries of a sparse gradient that have the same row index; return a dense gradient unchanged."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    rows, positions = tf.unique(gradient.indices)
    sums = tf.math.unsorted_segment_sum(gradient.values, positions, tf.size(rows))
    return tf.IndexedSlices(sums, rows, gradient.dense_shape)


class FusedAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Keras's Adam with as few passes over the weights as TensorFlow's kernels allow, instead of a dozen.

    With `weight_decay` it is AdamW (Loshchilov and Hutter 2019). Of an embedding, only the rows in the batch are
    updated; the moments and decay of the others wait until they are in a batch (TensorFlow Addons' `LazyAdam`). A third
    to half of these networks' weights are embeddings, and a batch has some hundred rows of them.
    """

    rate_factors: tuple[float, ...] = ()  # of the trainable variables' learning rates, in their order; empty: all are 1

    def apply(self, grads: list[Any], trainable_variables: list[Any] | None = None) -> None:
        """Clip, decay and step."""
        super().apply([sum_rows(gradient) for gradient in grads], trainable_variables)

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        if self.global_clipnorm is None:
            return grads
        clipped, _ = tf.clip_by_global_norm(grads, self.global_clipnorm)
        return list(clipped)

    def _apply_weight_decay(self, variables: list[Any]) -> None:
        """Do nothing: `update_step` applies the decay, since it knows the rows."""

    def _decay(self, variable: Any, learning_rate: Any) -> Any:
        """Return the share of a variable that decays in a step, or None."""
        if self.weight_decay is None or not self._use_weight_decay(variable):
            return None
        return learning_rate * self.weight_decay

    def _scale(self, learning_rate: Any, variable: Any) -> Any:
        """Return a variable's own learning rate."""
        if not self.rate_factors:
            return learning_rate
        return learning_rate * self.rate_factors[self._get_variable_index(variable)]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable and its moments (Kingma and Ba 2015, the formulation before section 2.1)."""
        index = self._get_variable_index(variable)
        moments = self._momentums[index].value, self._velocities[index].value
        rate = self._scale(learning_rate, variable)
        update = self._update_rows if isinstance(gradient, tf.IndexedSlices) else self._update_all
        update(gradient, variable, moments, rate, self._decay(variable, rate))

    def _update_all(self, gradient: Any, variable: Any, moments: tuple[Any, Any], rate: Any, decay: Any) -> None:
        if decay is not None:
            variable.assign_sub(variable * decay)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=moments[0].handle,
            v=moments[1].handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.convert_to_tensor(gradient),
        )

    def _update_rows(self, gradient: Any, variable: Any, moments: tuple[Any, Any], rate: Any, decay: Any) -> None:
        rows, values = gradient.indices, gradient.values
        step = tf.cast(self.iterations.value + 1, tf.float32)
        corrected = rate * tf.sqrt(1.0 - self.beta_2**step) / (1.0 - self.beta_1**step)
        old = tf.gather(variable, rows)
        momentum = self.beta_1 * tf.gather(moments[0], rows) + (1.0 - self.beta_1) * values
        velocity = self.beta_2 * tf.gather(moments[1], rows) + (1.0 - self.beta_2) * tf.square(values)
        kept = old if decay is None else old - old * decay
        for target, new in (
            (moments[0], momentum),
            (moments[1], velocity),
            (variable, kept - corrected * momentum / (tf.sqrt(velocity) + self.epsilon)),
        ):
            tf.raw_ops.ResourceScatterUpdate(resource=target.handle, indices=rows, updates=new)

    @property
    def averages(self) -> list[keras.Variable]:
        """The moving averages of the trainable variables, in their order."""
        return list(self._model_variables_moving_average)

    def _update_model_variables_moving_average(self, trainable_variables: list[Any]) -> None:
        """Average with the decay min(ema_momentum, t / (t + 9)) after step t, which counts from 0.

        The shorter memory in the first steps follows TensorFlow's `ExponentialMovingAverage` with `num_updates`.
        """
        step = tf.cast(self.iterations.value, tf.float32)
        share = 1.0 - tf.minimum(self.ema_momentum, step / (step + 9.0))
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            average.value.assign_sub((average.value - variable.value) * share)

    def finalize_variable_values(self, var_list: list[Any]) -> None:
        """Do nothing: Keras would set the weights to the averages after each `fit`."""


def make_optimizer(config: TrainingConfig, steps: int, adam: Callable[..., FusedAdam] = FusedAdam) -> FusedAdam:
    """Make the optimizer that `training.*` describes, for a training of `steps` updates; `adam` constructs it."""
    warmup_steps = round(config.warmup_fraction * steps)
    schedule = LinearWarmup(config.learning_rate, warmup_steps, steps, config.schedule == "linear")
    optimizer = adam(
        learning_rate=schedule,
        weight_decay=config.weight_decay if config.optimizer == "adamw" else None,
        global_clipnorm=config.clip_norm or None,
        use_ema=config.averaging == "ema",
        ema_momentum=config.ema_decay,
    )
    if config.optimizer == "adamw":
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer
