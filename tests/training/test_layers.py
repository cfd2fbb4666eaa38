"""`model.layers` and `model.freeze`: which layers a network has, and which are not trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from distilspark.config import TrainConfig
from distilspark.errors import UserError
from distilspark.features.encoding import encode, load_tokenizer
from distilspark.model.checkpoints import RECORD, fetch, file_digest
from distilspark.model.conversion import FILES, WEIGHTS, read_config
from distilspark.model.network import check_layers, export_arrays, layer_depths
from distilspark.package.build import largest_difference, write_package
from distilspark.training.batches import Examples
from distilspark.training.checkpoint.store import training_fingerprint
from distilspark.training.loop import TrainingData, build_initial_network, fit
from distilspark.training.prediction import Predictor
from distilspark.training.pretraining import _describe_inputs, _pretraining_config
from distilspark.training.targets import make_target_transform

Composer = Callable[..., TrainConfig]
LAYER = "distilbert.transformer.layer"
ONE = ("model=tiny", "model.layers=[1]")
pytestmark = pytest.mark.usefixtures("cache")


def test_chosen_layers_keep_their_weights_and_the_others_are_removed(compose_config: Composer) -> None:
    whole, upper = fetch(compose_config("model=tiny").model), fetch(compose_config(*ONE).model)
    before, after = load_file(whole / WEIGHTS), load_file(upper / WEIGHTS)
    assert read_config(upper) == read_config(whole) | {"n_layers": 1}
    assert {name for name in before if f"{LAYER}.1." not in name} == set(after)
    for name, array in after.items():
        np.testing.assert_array_equal(array, before[name.replace(f"{LAYER}.0.", f"{LAYER}.1.")], err_msg=name)
    assert not np.array_equal(before[f"{LAYER}.0.ffn.lin1.weight"], before[f"{LAYER}.1.ffn.lin1.weight"])
    assert {file.name for file in upper.iterdir()} == {*FILES, RECORD}
    assert fetch(compose_config("model=tiny", "model.layers=[0,1]").model) == whole


def test_damaged_checkpoint_of_chosen_layers_is_refused(compose_config: Composer) -> None:
    config = compose_config(*ONE)
    weights = fetch(config.model) / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(UserError, match=r"damaged.* delete "):
        fetch(config.model)


def test_network_with_fewer_layers_is_packaged(compose_config: Composer, tmp_path: Path) -> None:
    config = compose_config(*ONE, "model.max_length=16")
    checkpoint = fetch(config.model)
    network = build_initial_network(config, checkpoint)
    rows = pd.DataFrame({"sentence1": ["The cat sat.", "It is not that she asked who the dog was."]})
    sizes = {}
    for precision in ("float32", "int8"):
        folder = tmp_path / precision
        write_package(folder, export_arrays(network), checkpoint, config.task, config.model, (), precision)
        encoded = encode(load_tokenizer(checkpoint), rows["sentence1"].tolist(), None, 16)
        outputs = config.task.head_kind.activate(Predictor(network, 999, 1).raw_outputs(encoded))
        assert largest_difference(folder, rows, outputs) < 1e-2
        sizes[precision] = (folder / "model.onnx").stat().st_size
    assert sizes["int8"] < sizes["float32"]


@pytest.mark.parametrize(
    "layers, reason",
    [
        ("[1,0]", r"^model\.layers=\[1, 0\]: .*ascending"),
        ("[0,0]", r"^model\.layers=\[0, 0\]: .*ascending"),
        ("[]", r"^model\.layers=\[\]: .*one or more"),
        ("[-1]", r"^model\.layers\.0=-1: .*\b0\b"),
        ("[0,2]", r"^model\.layers=\[0, 2\]: .*tiny .*layer 2, .*0 to 1$"),
    ],
)
def test_missing_or_unordered_layers_are_refused(compose_config: Composer, layers: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        fetch(compose_config("model=tiny", f"model.layers={layers}").model)


@pytest.mark.parametrize(
    "drawn, freeze, reason",
    [
        (0, ["embeddings", 2], r"^model\.freeze=.*: .*layer 2, .*2 layers$"),
        (1, [0, 1], r"^model\.freeze=\[0, 1\]: layer 1 .*random"),
        (2, ["embeddings"], ""),
        (1, [0], ""),
    ],
)
def test_frozen_layers_must_exist_and_not_be_reinitialized(
    tiny_folder: Path, drawn: int, freeze: list[str | int], reason: str
) -> None:
    if reason:
        with pytest.raises(UserError, match=reason):
            check_layers(tiny_folder, drawn, freeze)
    else:
        check_layers(tiny_folder, drawn, freeze)


@pytest.mark.slow
@pytest.mark.parametrize(
    "freeze, others, frozen",
    [
        (
            "[embeddings,0]",
            ("training.layer_decay=0.5", "model.reinitialize_layers=1"),
            ("distilbert.embeddings.", f"{LAYER}.0."),
        ),
        ("[1]", ("training.averaging=ema",), (f"{LAYER}.1.",)),
    ],
)
def test_only_weights_that_are_not_frozen_change(
    compose_config: Composer, toy_rows: Any, freeze: str, others: tuple[str, ...], frozen: tuple[str, ...]
) -> None:
    config = compose_config("model=tiny", "training.batch_size=16", f"model.freeze={freeze}", *others)
    network = build_initial_network(config, fetch(config.model))
    assert len(layer_depths(network)) == len(network.trainable_variables)
    before = export_arrays(network)
    examples = Examples(*toy_rows(64))
    target = make_target_transform(examples.labels, config.task, config.training)
    fit(network, TrainingData(examples, examples, target), config, lambda epoch, metrics: None)
    same = {name for name, array in export_arrays(network).items() if np.array_equal(array, before[name])}
    # the keys' bias does not affect attention: its gradient is only rounding error
    keys = {name for name in before if name.endswith("k_lin.bias")}
    assert same | keys == {name for name in before if name.startswith(frozen)} | keys


def test_pretraining_depends_on_chosen_and_frozen_layers(compose_config: Composer) -> None:
    def made_from(*overrides: str) -> str:
        settings = _pretraining_config(compose_config("model=tiny", *overrides))
        return str(_describe_inputs(settings, 10, fetch(settings.model)))

    plain, layers, frozen = made_from(), made_from("model.layers=[1]"), made_from("model.freeze=[embeddings]")
    assert len({plain, layers, frozen}) == 3
    assert "freeze" not in plain, "an earlier version's checkpoint would be made again"
    assert file_digest(fetch(compose_config(*ONE).model) / WEIGHTS) in layers


def test_fingerprint_depends_on_chosen_and_frozen_layers(compose_config: Composer) -> None:
    changes = ("model.layers=null", "model.layers=[1]", "model.freeze=[embeddings]", "model.freeze=[0]")
    assert len({training_fingerprint(compose_config("model=tiny", change)) for change in changes}) == len(changes)
