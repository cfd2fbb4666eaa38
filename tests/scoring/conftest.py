"""Packages as training writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
from packages import make_network

from distilspark.config import Precision, TrainConfig
from distilspark.model.network import export_arrays
from distilspark.scoring.package import write_package


@pytest.fixture(scope="session")
def package(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, compose_config: Callable[..., TrainConfig]
) -> Callable[..., Path]:
    """`package(task, stop_words, precision)`: the folder that `distilspark.scoring.pyfunc` loads; read only."""

    @cache
    def write(task: str, stop_words: Sequence[str] = (), precision: Precision = "float32") -> Path:
        config = compose_config(f"task={task}", "model=tiny", "model.max_length=16")
        folder = tmp_path_factory.mktemp(task)
        network = make_network(tiny_folder, config.task.head, len(config.task.labels) or 1, "cls")
        arrays = export_arrays(network)
        write_package(folder, arrays, tiny_folder, config.task, config.model, stop_words, precision)
        return folder

    return write
