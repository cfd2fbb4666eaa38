"""Schedule and optimizer against hand-computed values and Keras's own Adam and AdamW."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from distilspark.config import TrainConfig
from distilspark.training.distributed.strategy import SINGLE_PROCESS
from distilspark.training.loop import compile_network
from distilspark.training.optimizer import FusedAdam, LinearWarmup, make_optimizer

Composer = Callable[..., TrainConfig]


def rates(schedule: LinearWarmup, steps: int) -> list[float]:
    return [float(schedule(step)) for step in range(steps)]


def test_learning_rate_rises_linearly_and_then_falls_to_zero() -> None:
    expected = [0.25, 0.5, 0.75, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0.0, 0.0]
    assert rates(LinearWarmup(1.0, 4, 10, decay=True), 12) == pytest.approx(expected, abs=1e-6)


def test_learning_rate_is_constant_after_warm_up_without_decay() -> None:
    assert rates(LinearWarmup(2.0, 2, 4, decay=False), 6) == pytest.approx([1.0, 2.0, 2.0, 2.0, 2.0, 2.0])


def test_schedule_without_warm_up_and_with_only_warm_up() -> None:
    assert rates(LinearWarmup(1.0, 0, 4, decay=True), 5) == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0])
    assert rates(LinearWarmup(1.0, 4, 4, decay=True), 4) == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates(LinearWarmup(3.0, 0, 1, decay=False), 3) == pytest.approx([3.0] * 3)


def test_schedule_can_be_rebuilt_from_its_config() -> None:
    schedule = LinearWarmup(1e-3, 3, 20, decay=True)
    assert rates(LinearWarmup(**schedule.get_config()), 20) == rates(schedule, 20)


def test_optimizer_follows_the_config(compose_config: Composer) -> None:
    training = compose_config("model=tiny", "training.learning_rate=1e-3", "training.warmup_fraction=0.25").training
    optimizer = make_optimizer(training, 40)
    assert isinstance(optimizer._learning_rate, LinearWarmup)
    assert optimizer._learning_rate.get_config() == {
        "peak": 1e-3,
        "warmup_steps": 10,
        "total_steps": 40,
        "decay": True,
    }
    assert (optimizer.weight_decay, optimizer.global_clipnorm) == (0.01, 1.0)
    plain = compose_config("model=tiny", "experiment=paper").training
    optimizer = make_optimizer(plain, 40)
    assert (optimizer.weight_decay, optimizer.global_clipnorm) == (None, None)
    assert rates(optimizer._learning_rate, 41) == pytest.approx([plain.learning_rate] * 41)


def small_network() -> keras.Model:
    """Return an embedding (with sparse gradients), a norm and a dense layer."""
    keras.utils.set_random_seed(7)
    inputs = keras.Input((None,), dtype="int32")
    hidden = keras.layers.Embedding(50, 8)(inputs)
    hidden = keras.layers.LayerNormalization()(hidden)
    hidden = keras.layers.GlobalAveragePooling1D()(hidden)
    return keras.Model(inputs, keras.layers.Dense(1)(hidden))


def trained_weights(optimizer: keras.optimizers.Optimizer, scale: float = 1.0) -> dict[str, Any]:
    """Return the weights after ten steps on the same batches.

    Every token occurs once in a batch. For repeated tokens Keras squares the parts of a sparse gradient separately, and
    it also updates the rows of tokens that a batch lacks.
    """
    network = small_network()
    network.compile(optimizer=optimizer, loss="mse", jit_compile=False)
    rng = np.random.default_rng(0)
    for _ in range(10):
        network.train_on_batch(rng.permutation(50).reshape(10, 5), scale * rng.normal(size=(10, 1)))
    return {variable.path: variable.numpy() for variable in network.weights}


@pytest.mark.parametrize("name", ["adamw", "adam"])
@pytest.mark.parametrize("clip, scale", [(0.0, 1.0), (0.1, 100.0)])
def test_fused_optimizer_equals_keras(compose_config: Composer, name: str, clip: float, scale: float) -> None:
    changed = [f"training.optimizer={name}", f"training.clip_norm={clip}", "training.weight_decay=0.3"]
    training = compose_config("model=tiny", "training.learning_rate=0.01", *changed).training
    ours = trained_weights(make_optimizer(training, 10), scale)
    schedule = LinearWarmup(0.01, 1, 10, decay=True)
    classes = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}
    decay = {"weight_decay": 0.3} if name == "adamw" else {}
    reference = classes[name](learning_rate=schedule, global_clipnorm=clip or None, **decay)
    if name == "adamw":
        reference.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    theirs = trained_weights(reference, scale)
    start = {variable.path: variable.numpy() for variable in small_network().weights}
    assert len(ours) == 5
    for (path, mine), other, before in zip(ours.items(), theirs.values(), start.values(), strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-6, rtol=1e-4, err_msg=path)
        assert not np.allclose(mine, before, atol=1e-4), path


def test_layer_decay_lowers_the_learning_rate_from_the_head_down(compose_config: Composer, tiny_folder: Any) -> None:
    """The length of Adam's first step equals the variable's learning rate."""
    from distilspark.model.network import build_network

    steps, plain = {}, ("training.clip_norm=0", "training.optimizer=adam")
    for decay in (1.0, 0.5):
        training = compose_config("model=tiny", f"training.layer_decay={decay}", *plain).training
        network = build_network(tiny_folder, "classification", 2)
        before = network.get_weights()
        compile_network(network, training, 10, SINGLE_PROCESS)
        variables = network.trainable_variables
        network.optimizer.apply([tf.ones(variable.shape) for variable in variables], variables)
        moved = [old - new for old, new in zip(before, network.get_weights(), strict=True)]
        paths = [variable.path for variable in network.weights]
        steps[decay] = dict(zip(paths, [float(np.mean(each)) for each in moved], strict=True))
    factors = {path: steps[0.5][path] / step for path, step in steps[1.0].items()}
    expected = {"classifier": 1, "transformer_layer_1": 0.5, "transformer_layer_0": 0.25, "embedding": 0.125}
    for path, factor in factors.items():
        assert factor == pytest.approx(next(value for part, value in expected.items() if part in path), rel=1e-3), path
    assert len(factors) == len(network.weights) == 4 + 2 * 16 + 4
    assert steps[1.0].values() == pytest.approx([training.learning_rate] * len(factors), rel=1e-3)


def test_weight_decay_is_proportional_to_the_learning_rate(compose_config: Composer) -> None:
    training = compose_config("model=tiny", "training.weight_decay=0.5", "training.schedule=constant").training
    optimizer = make_optimizer(training, 1)
    optimizer.rate_factors = (1.0, 0.5)
    variables = [keras.Variable(np.ones((1, 1), np.float32)) for _ in range(2)]
    optimizer.apply([tf.zeros((1, 1)), tf.zeros((1, 1))], variables)
    decays = [1 - float(variable.numpy().item()) for variable in variables]
    assert decays == pytest.approx([training.learning_rate * 0.5, training.learning_rate * 0.25], rel=1e-3)


def test_gradients_of_repeated_tokens_are_summed() -> None:
    ours, reference = FusedAdam(0.01), keras.optimizers.Adam(0.01)
    start, rows = np.ones((4, 2), np.float32), np.array([[1.0, -2.0], [0.5, 1.0], [3.0, 0.1]], np.float32)
    sparse = tf.IndexedSlices(tf.constant(rows), tf.constant([2, 0, 2]), tf.constant([4, 2]))
    ended = []
    for optimizer, gradient in ((ours, sparse), (reference, tf.convert_to_tensor(sparse))):
        variable = keras.Variable(start)
        for _ in range(3):
            optimizer.apply([gradient], [variable])
        ended.append(variable.numpy())
    np.testing.assert_allclose(ended[0], ended[1], atol=1e-6)
    assert (ended[0] != start).tolist() == [[True, True], [False, False], [True, True], [False, False]]


def test_embedding_rows_missing_from_a_batch_are_not_updated() -> None:
    """Rows 0 and 1 alternate. Each has the moments of two steps, with the rate and bias correction of the step."""
    optimizer, variable = (
        FusedAdam(0.1, weight_decay=0.5, global_clipnorm=1.0),
        keras.Variable(np.ones((2, 1), np.float32)),
    )
    expected, moments = np.ones(2), np.zeros((2, 2))
    for step, gradient in enumerate([0.5, -0.25, 4.0, 0.125], start=1):
        row = (step - 1) % 2
        before = variable.numpy()[1 - row].item()
        optimizer.apply([tf.IndexedSlices([[gradient]], [row], [2, 1])], [variable])
        clipped = min(gradient, 1.0)
        moments[row] = [0.9, 0.999] * moments[row] + [0.1, 0.001] * np.array([clipped, clipped**2])
        momentum, velocity = moments[row] / [1 - 0.9**step, 1 - 0.999**step]
        expected[row] -= 0.1 * (0.5 * expected[row] + momentum / np.sqrt(velocity))
        assert variable.numpy()[1 - row].item() == before
        np.testing.assert_allclose(variable.numpy().ravel(), expected, rtol=1e-4)


def test_weight_decay_excludes_biases_and_norms(compose_config: Composer, tiny_folder: Any) -> None:
    from distilspark.model.network import build_network

    network = build_network(tiny_folder, "classification", 2)
    optimizer = make_optimizer(compose_config("model=tiny").training, 10)
    optimizer.build(network.trainable_variables)
    decayed = {variable.path for variable in network.trainable_variables if optimizer._use_weight_decay(variable)}
    spared = {variable.path for variable in network.trainable_variables} - decayed
    assert all(path.rsplit("/", 1)[-1] in ("bias", "gamma", "beta") for path in spared)
    assert all(path.rsplit("/", 1)[-1] in ("kernel", "embeddings", "position_embeddings") for path in decayed)
    assert len(decayed) == 2 + 2 * 6 + 2
    assert len(spared) == 2 + 2 * (6 + 4) + 2
