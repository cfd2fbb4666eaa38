"""Adam and AdamW with warm-up and decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from distilspark.config import TrainingConfig


class LinearWarmup(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """The rate rises linearly over the warm-up, then falls linearly to zero, or stays (Mosbach et al. 2021)."""

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


class FusedAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Keras's Adam with as few passes over the weights as TensorFlow's kernels allow, instead of a dozen.

    With `weight_decay` it is AdamW (Loshchilov and Hutter 2019). On short batches these passes take half of a step.
    """

    rate_factors: tuple[float, ...] = ()  # of the trainable variables' learning rates, in their order; empty: all are 1

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        if self.global_clipnorm is None:
            return grads
        clipped, _ = tf.clip_by_global_norm(grads, self.global_clipnorm)
        return list(clipped)

    def _apply_weight_decay(self, variables: list[Any]) -> None:
        if self.weight_decay is None:
            return
        learning_rate = self.learning_rate
        for variable in variables:
            if self._use_weight_decay(variable):
                decay = self._scale(learning_rate, variable) * self.weight_decay
                variable.value.assign_sub(variable.value * decay)

    def _scale(self, learning_rate: Any, variable: Any) -> Any:
        """Return a variable's own learning rate."""
        if not self.rate_factors:
            return learning_rate
        return learning_rate * self.rate_factors[self._get_variable_index(variable)]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update a variable and its moments (Kingma and Ba 2015, the formulation before section 2.1)."""
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index].value, self._velocities[index].value
        step = tf.cast(self.iterations.value + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentum.handle,
            v=velocity.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=self._scale(learning_rate, variable),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.convert_to_tensor(gradient),
        )

    @property
    def averages(self) -> list[keras.Variable]:
        """The moving averages of the trainable variables, in their order."""
        return list(self._model_variables_moving_average)

    def _update_model_variables_moving_average(self, trainable_variables: list[Any]) -> None:
        """Average with the decay min(ema_momentum, t / (t + 9)) after step t, which counts from 0.

        The short memory of the first steps is that of TensorFlow's `ExponentialMovingAverage` with `num_updates`.
        """
        step = tf.cast(self.iterations.value, tf.float32)
        share = 1.0 - tf.minimum(self.ema_momentum, step / (step + 9.0))
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            average.value.assign_sub((average.value - variable.value) * share)

    def finalize_variable_values(self, var_list: list[Any]) -> None:
        """Leave the weights as they are: Keras would set them to the averages after each `fit`."""


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
