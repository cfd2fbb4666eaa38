"""Package a fine-tuned network for scoring, and log it to MLflow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
import onnx
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types.schema import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from numpy.typing import NDArray

from distilspark.config import DEFAULT_THRESHOLD, ModelConfig, Precision, TaskConfig
from distilspark.errors import WorkError
from distilspark.evaluation.predictions import Predictions
from distilspark.package.code import LOADER, write_code
from distilspark.package.graph import Arrays, Graph, build_graph
from distilspark.package.load import PROFILE
from distilspark.package.pyfunc import GRAPH, PARAMS, SETTINGS, Scorer
from distilspark.package.quantization import Int8Graph
from distilspark.tracking.trust import record_digest

REQUIREMENTS = ("mlflow", "numpy", "onnxruntime", "pandas", "psutil", "tokenizers")
PARITY = 1e-4
GRAPHS: dict[Precision, type[Graph]] = {"float32": Graph, "int8": Int8Graph}


def write_package(
    folder: Path,
    arrays: Arrays,
    checkpoint: Path,
    task: TaskConfig,
    model: ModelConfig,
    stop_words: Sequence[str],
    precision: Precision = "float32",
    *,
    threshold: float = DEFAULT_THRESHOLD,
) -> None:
    """Write the package that `distilspark.package.pyfunc` loads.

    Args:
        folder: of the package.
        arrays: the network's weights (`distilspark.model.network.export_arrays`).
        checkpoint: the folder that the network was built from; its tokenizer is copied.
        task: its labels and text columns.
        model: pooling and maximum length.
        stop_words: removed from a text before it is encoded; empty if the network reads raw text.
        precision: of the transformer's layers.
        threshold: the decision threshold, which is already folded into the weights and only recorded here.

    """
    folder.mkdir(parents=True, exist_ok=True)
    heads = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["n_heads"]
    graph = build_graph(arrays, task.head_kind, heads=heads, pooling=model.pooling, graph=GRAPHS[precision]())
    onnx.save(graph, folder / GRAPH)
    shutil.copyfile(checkpoint / "tokenizer.json", folder / "tokenizer.json")
    settings = {
        "task": task.name,
        "head": task.head,
        "columns": task.text_columns,
        "labels": task.labels,
        "max_length": model.max_length,
        "stop_words": list(stop_words),
        "precision": precision,
        "threshold": threshold,
    }
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2), encoding="utf-8")


def largest_difference(folder: Path, rows: pd.DataFrame, outputs: NDArray[Any]) -> float:
    """Return the largest difference between a package's outputs for rows and `outputs`, as in `Predictions`."""
    return float(np.abs(Scorer(folder).outputs(rows).reshape(outputs.shape) - outputs).max())


def check_parity(folder: Path, rows: pd.DataFrame, outputs: NDArray[Any]) -> float:
    """Return the largest difference between the package's and the network's outputs for the same rows.

    Args:
        folder: the package.
        rows: text columns.
        outputs: the network's, as in `distilspark.evaluation.predictions.Predictions`.

    Raises:
        WorkError: it is above `PARITY`.

    """
    difference = largest_difference(folder, rows, outputs)
    if not difference <= PARITY:
        raise WorkError(f"the packaged model differs from the network by {difference:.2g}, more than {PARITY:.0e}")
    return difference


def outputs_of(folder: Path, task: TaskConfig, rows: pd.DataFrame) -> NDArray[Any]:
    """Return a package's outputs for rows of text, as in `distilspark.evaluation.predictions.Predictions`."""
    return task.head_kind.shape(Scorer(folder).outputs(rows))


def predictions_of(folder: Path, task: TaskConfig, rows: pd.DataFrame) -> Predictions:
    """Return a package's predictions for rows with canonical columns and `label`."""
    tokens = Scorer(folder).encode(rows).full_lengths
    return Predictions(rows.assign(tokens=tokens), rows["label"].to_numpy(float), outputs_of(folder, task, rows))


def size_of(folder: Path) -> int:
    """Return the size of a package in bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def write_profile(folder: Path, profile: dict[str, Any]) -> None:
    """Write a profile, the reference of later scorings' drift, to the package and to the run's artifacts."""
    (folder / PROFILE).write_text(json.dumps(profile), encoding="utf-8")
    mlflow.log_artifact(str(folder / PROFILE), "package")


def log_package(folder: Path, task: TaskConfig, example: pd.DataFrame, step: int) -> ModelInfo:
    """Log the package as the run's model, with its digest; `example` are a few rows of text, `step` the kept epoch."""
    with TemporaryDirectory() as scratch:
        logged = mlflow.pyfunc.log_model(
            name="model",
            loader_module=LOADER,
            data_path=str(folder),
            code_paths=[str(write_code(Path(scratch)))],
            signature=signature(task),
            input_example=example[task.text_columns],
            pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
            step=step,
        )
    record_digest(logged.model_uri)
    return logged


def signature(task: TaskConfig) -> ModelSignature:
    """Return the signature: text columns in, `Scorer.predict`'s columns out, and its params with defaults."""
    outputs: list[Any] = [ColSpec(DataType[answer.type], answer.name) for answer in task.head_kind.answers]
    outputs.append(ColSpec(DataType.string, "error"))
    outputs += [ColSpec(DataType.long, name) for name in ("tokens", "unknown_tokens")]
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, name) for name in task.text_columns]),
        outputs=Schema(outputs),
        params=ParamSchema([ParamSpec(name, DataType.long, default) for name, default in PARAMS.items()]),
    )
