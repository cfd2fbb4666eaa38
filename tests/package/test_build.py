"""A package's contents, signature and settings; a package that differs from its network is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distilspark.config import TrainConfig
from distilspark.errors import WorkError
from distilspark.package.build import check_parity, outputs_of, signature
from distilspark.package.pyfunc import PARAMS, Scorer
from distilspark.package.quantization import measure_quantization

Package = Callable[..., Path]
Composer = Callable[..., TrainConfig]
COUNTS = ["error", "tokens", "unknown_tokens"]


def test_package_that_differs_from_the_network_is_refused(package: Package) -> None:
    folder = package("cola")
    rows = pd.DataFrame({"sentence1": ["It is.", "the dog who"]})
    outputs = Scorer(folder).outputs(rows)
    assert check_parity(folder, rows, outputs) == 0
    assert check_parity(folder, rows, outputs + 5e-5) == pytest.approx(5e-5, rel=0.01)
    with pytest.raises(WorkError, match="the network"):
        check_parity(folder, rows, outputs + 2e-4)
    with pytest.raises(WorkError, match=r"the network .*\bnan\b"):
        check_parity(folder, rows, np.full_like(outputs, np.nan))


@pytest.mark.parametrize(
    "task, inputs, outputs",
    [
        ("cola", ["sentence1"], ["prediction", "label", "score", *COUNTS]),
        ("stsb", ["sentence1", "sentence2"], ["prediction", *COUNTS]),
    ],
)
def test_signature_matches_the_scorers_columns_and_types(
    package: Package, compose_config: Composer, task: str, inputs: list[str], outputs: list[str]
) -> None:
    told = signature(compose_config(f"task={task}", "model=tiny").task)
    assert told.inputs.input_names() == inputs
    assert told.outputs.input_names() == outputs
    assert {param.name: param.default for param in told.params.params} == PARAMS
    answer = Scorer(package(task)).predict(pd.DataFrame({name: ["It is.", None] for name in inputs}))
    assert answer.columns.tolist() == outputs
    kinds = {"long": "i", "double": "f", "string": "O"}
    for column in told.outputs.inputs:
        assert answer[column.name].to_numpy(dtype=None).dtype.kind == kinds[column.type.name], column.name


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_settings_describe_the_package(package: Package, precision: str) -> None:
    settings = json.loads((package("cola", precision=precision) / "scorer.json").read_text())
    assert settings == {
        "task": "cola",
        "head": "classification",
        "columns": ["sentence1"],
        "labels": ["unacceptable", "acceptable"],
        "max_length": 16,
        "stop_words": [],
        "precision": precision,
        "threshold": 0.5,
    }


@pytest.mark.parametrize("task", ["cola", "stsb"])
def test_cost_of_quantization_is_measured_on_the_packages_outputs(
    package: Package, compose_config: Composer, task: str
) -> None:
    texts = [f"the dog was {'not ' * number}it" for number in range(12)]
    rows = pd.DataFrame({"sentence1": texts, "sentence2": texts[::-1]})
    config = compose_config(f"task={task}", "model=tiny").task
    folders = package(task), package(task, precision="int8")
    one, other = (outputs_of(folder, config, rows) for folder in folders)
    comparison = measure_quantization(config, np.arange(12.0) % 2, one, other)
    assert one.shape == ((12, 2) if task == "cola" else (12,))
    np.testing.assert_array_equal(one, Scorer(folders[0]).outputs(rows).reshape(one.shape))
    assert comparison.max_difference == pytest.approx(float(abs(one - other).max()))
    assert 0 < comparison.mean_difference < comparison.max_difference
    assert comparison.metric_drop == comparison.float32 - comparison.int8
