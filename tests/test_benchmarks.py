"""The suite of benchmarks, with stand-ins for the benchmarks themselves, and the example sentences."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest

import suite
from sentences import ACCEPTABLE, predict_sentences

STAND_IN = """
import os, pathlib, sys
print("measuring")
pathlib.Path(os.environ["BENCHMARK_RESULTS"], f"{sys.argv[1]}.json").write_text("{}")
sys.exit(int(sys.argv[2]))
"""


def test_failed_benchmark_is_named_and_the_others_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "results").mkdir()
    ends = {"first": "0", "broken": "3", "last": "0"}
    commands = {name: [sys.executable, "-c", STAND_IN, name, code] for name, code in ends.items()}
    assert suite.run_all(commands, tmp_path / "logs", tmp_path / "results") == 1
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()][-1] == "failed: broken"
    assert {file.stem: file.read_text() for file in (tmp_path / "logs").iterdir()} == dict.fromkeys(ends, "measuring\n")
    assert {file.stem for file in (tmp_path / "results").iterdir()} == ends.keys()
    assert suite.run_all({"first": commands["first"]}, tmp_path / "logs", tmp_path / "results") == 0


@pytest.mark.parametrize("name", suite.BENCHMARKS)
def test_quick_run_uses_options_of_the_script(name: str) -> None:
    script = suite.HERE / f"{name}.py"
    options = [word for word in suite.BENCHMARKS[name].split() if word.startswith("--")]
    text = script.read_text(encoding="utf-8")
    assert [option for option in options if f'"{option}"' not in text] == []
    assert f"benchmarks/{name}.py" in (suite.ROOT / "Makefile").read_text(encoding="utf-8")


def test_quick_results_are_not_the_recorded_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = "from results_file import write_results; write_results('made', {'rows': 1})"
    monkeypatch.setenv("PYTHONPATH", f"{suite.ROOT / 'src'}:{suite.HERE}")
    assert suite.run_all({"made": [sys.executable, "-c", writes]}, tmp_path, tmp_path / "results") == 0
    assert json.loads((tmp_path / "results" / "made.json").read_text())["rows"] == 1
    assert not (suite.HERE / "results" / "made.json").exists()


def test_sentences_of_the_readme_have_the_model_s_own_predictions(saved: Callable[[str], Path]) -> None:
    model = mlflow.pyfunc.load_model(str(saved("cola")))
    found = predict_sentences("cola", str(saved("cola")))
    assert [each["sentence"] for each in found] == list(ACCEPTABLE["cola"])
    assert {each["acceptable"] for each in found} == {True, False}
    for each in found:
        (answer,) = model.predict(pd.DataFrame({"sentence1": [each["sentence"]]})).itertuples()
        assert (each["predicted"], each["probability"]) == (answer.prediction == 1, round(answer.score, 4))
    assert predict_sentences("stsb", "models:/none") == []
