"""A model's packaged code is complete, and a model saved by version 0.1.0 still loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from distilspark.package.code import LOADER, write_code
from distilspark.package.pyfunc import Scorer
from distilspark.paths import ROOT
from helpers.packages import save_as_of_0_1_0
from helpers.scorings import Scoring

Saved = Callable[[str], Path]
TEXTS = ["It is the dog.", "who was not", "the dog"]
IMPORTED = """
import importlib, json, pathlib, sys
importlib.import_module(sys.argv[1])
print(json.dumps({name: module.__file__ for name, module in sys.modules.items() if name.startswith("distilspark")}))
"""
# Scores with a model, after importing the modules `before` and before importing the modules `after`.
SCORE = """
import importlib, json, sys
folder, texts, before, after = sys.argv[1:]
[importlib.import_module(name) for name in before.split()]
import mlflow, pandas as pd
scores = mlflow.pyfunc.load_model(folder).predict(pd.DataFrame({"sentence1": json.loads(texts)}))["score"].tolist()
[importlib.import_module(name) for name in after.split()]
print(json.dumps({"scores": scores, "modules": {name: sys.modules[name].__file__ for name in after.split()}}))
"""


def run(code: str, *arguments: str, path: Path | str = "") -> dict[str, object]:
    """Run code in a new process whose project modules come only from `path`; return its output."""
    environment = os.environ | {"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", "-c", code, *arguments]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout.splitlines()[-1]))


@pytest.mark.slow
def test_packaged_code_is_exactly_the_modules_that_the_loader_imports(tmp_path: Path) -> None:
    code = write_code(tmp_path)
    shipped = {str(file.relative_to(code)) for file in code.rglob("*") if file.is_file()}
    imported = run(IMPORTED, LOADER, path=ROOT / "src")
    assert {str(Path(str(file)).relative_to(ROOT / "src" / "distilspark")) for file in imported.values()} == shipped
    alone = run(IMPORTED, LOADER, path=tmp_path)
    assert alone.keys() == imported.keys()
    assert all(str(file).startswith(str(tmp_path)) for file in alone.values())
    assert len(shipped) < 20


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True], ids=["own", "of 0.1.0"])
def test_a_model_scores_without_the_project(saved: Saved, package: Saved, tmp_path: Path, old: bool) -> None:
    model = save_as_of_0_1_0(saved("cola"), tmp_path / "old") if old else saved("cola")
    answer = run(SCORE, str(model), json.dumps(TEXTS), "", "")
    assert answer["scores"] == pytest.approx(expected(package), abs=1e-6)


@pytest.mark.slow
def test_project_modules_can_be_imported_after_loading_a_model(saved: Saved, package: Saved) -> None:
    names = ["distilspark.config", "distilspark.features.pipeline", "distilspark.package.graph"]
    answer = run(SCORE, str(saved("cola")), json.dumps(TEXTS), "", " ".join(names), path=ROOT / "src")
    assert answer["modules"] == {name: f"{ROOT}/src/{name.replace('.', '/')}.py" for name in names}
    assert answer["scores"] == pytest.approx(expected(package), abs=1e-6)


@pytest.mark.slow
def test_model_of_0_1_0_scores_in_a_process_that_has_imported_the_project(
    saved: Saved, package: Saved, tmp_path: Path
) -> None:
    model = save_as_of_0_1_0(saved("cola"), tmp_path / "old")
    answer = run(SCORE, str(model), json.dumps(TEXTS), "distilspark.scoring", "", path=ROOT / "src")
    assert answer["scores"] == pytest.approx(expected(package), abs=1e-6)


@pytest.mark.slow
def test_a_model_of_0_1_0_scores_in_spark(spark: SparkSession, saved: Saved, package: Saved, tmp_path: Path) -> None:
    score = Scoring(spark, tmp_path, saved)
    model = save_as_of_0_1_0(saved("cola"), tmp_path / "old")
    rows = score(score.text(TEXTS), model=model).set_index("sentence1")
    assert rows["score"][TEXTS].tolist() == pytest.approx(expected(package), abs=1e-6)


def expected(package: Saved) -> list[float]:
    """Return the package's scores, computed in this process."""
    return list(Scorer(package("cola")).predict(pd.DataFrame({"sentence1": TEXTS}))["score"])
