"""MLflow's scoring server returns valid JSON for every request format, and one answer for each row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.pyfunc import scoring_server
from starlette.testclient import TestClient

from distilspark.package.pyfunc import HIGHEST
from distilspark.package.serving import Answers

GOOD = "It is the dog."
VALUES: list[Any] = [GOOD, None, 7, 1.5, True, ["It is."], {"text": "It is."}, "", "None", "7"]
ERRORS = [
    "",
    "is missing",
    "is not text",
    "is not text",
    "is not text",
    "is not text",
    "is not text",
    "is empty",
    "",
    "",
]
FORMS: dict[str, Callable[[list[Any]], Any]] = {
    "dataframe_split": lambda values: {"columns": ["sentence1"], "data": [[value] for value in values]},
    "dataframe_records": lambda values: [{"sentence1": value} for value in values],
    "inputs": lambda values: {"sentence1": values},
    "instances": lambda values: [{"sentence1": value} for value in values],
}


@pytest.fixture(scope="module")
def ask(saved: Callable[[str], Path]) -> Callable[..., Any]:
    """POST a request to the task's server; return the status and the answer, which must be strict JSON."""
    clients: dict[str, TestClient] = {}

    def ask_(task: str, body: Any, kind: str = "application/json") -> tuple[int, Any]:
        if task not in clients:
            clients[task] = TestClient(scoring_server.init(mlflow.pyfunc.load_model(str(saved(task)))))
        content = body if isinstance(body, str) else json.dumps(body)
        answer = clients[task].post("/invocations", content=content, headers={"Content-Type": kind})
        return answer.status_code, json.loads(answer.text, parse_constant=pytest.fail)

    return ask_


def expected(values: list[str]) -> list[str]:
    return [error and f"sentence1 {error}" for error in values]


@pytest.mark.parametrize("form", FORMS)
def test_values_that_are_not_text_are_row_errors_in_every_format(ask: Callable[..., Any], form: str) -> None:
    status, answer = ask("cola", {form: FORMS[form](VALUES)})
    assert status == 200
    rows = answer["predictions"]
    assert [row["error"] for row in rows] == expected(ERRORS)
    for row in rows:
        failed = row["error"] != ""
        assert (row["score"] is None) == failed == (row["prediction"] == -1) == (row["label"] == "")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value, error", [(None, "is missing"), (7, "is not text"), (GOOD, "")])
def test_columns_with_a_single_type_are_read_in_every_format(
    ask: Callable[..., Any], form: str, value: Any, error: str
) -> None:
    status, answer = ask("cola", {form: FORMS[form]([value, value])})
    assert (status, [row["error"] for row in answer["predictions"]]) == (200, expected([error] * 2))


def test_all_shapes_of_inputs_are_read_the_same(ask: Callable[..., Any]) -> None:
    shapes = [[GOOD, None], [{"sentence1": GOOD}, {"sentence1": None}], {"sentence1": [GOOD, None]}]
    answers = [ask("cola", {"inputs": shape}) for shape in shapes]
    assert answers == [answers[0]] * 3
    assert [row["error"] for row in answers[0][1]["predictions"]] == ["", "sentence1 is missing"]


@pytest.mark.parametrize("body", [GOOD, {"sentence1": [GOOD], "sentence2": ["who", "she"]}, [[GOOD], ["who"]], {}, []])
@pytest.mark.parametrize("form", ["inputs", "instances"])
def test_body_that_is_not_a_table_is_a_bad_request(ask: Callable[..., Any], form: str, body: Any) -> None:
    status, answer = ask("stsb", {form: body})
    assert status == 400 and "Traceback" not in json.dumps(answer)


def test_csv_is_read_as_text(ask: Callable[..., Any]) -> None:
    status, answer = ask("cola", f'sentence1\n"{GOOD}"\n\n7\n"  "\n', "text/csv")
    assert status == 200
    assert [row["error"] for row in answer["predictions"]] == ["", "", "sentence1 is empty"]


@pytest.mark.parametrize("form", FORMS)
def test_invalid_row_of_a_regression_has_a_null_prediction(ask: Callable[..., Any], form: str) -> None:
    rows = [{"sentence1": GOOD, "sentence2": "who"}, {"sentence1": GOOD, "sentence2": None}]
    table = {"columns": ["sentence1", "sentence2"], "data": [list(row.values()) for row in rows]}
    columns = {name: [row[name] for row in rows] for name in ("sentence1", "sentence2")}
    bodies = {"dataframe_split": table, "inputs": columns}
    status, answer = ask("stsb", {form: bodies.get(form, rows)})
    first, second = answer["predictions"]
    assert status == 200 and isinstance(first["prediction"], float)
    assert (second["prediction"], second["error"]) == (None, "sentence2 is missing")


def test_all_formats_give_the_same_answers(ask: Callable[..., Any]) -> None:
    answers = [ask("cola", {form: shape(VALUES)}) for form, shape in FORMS.items()]
    assert answers == [answers[0]] * len(FORMS)


@pytest.mark.parametrize(
    "params",
    [
        {"max_characters": 0},
        {"max_characters": HIGHEST["max_characters"] + 1},
        {"max_characters": None},
        {"max_characters": "many"},
        {"batch_tokens": -1},
        {"batch_tokens": HIGHEST["batch_tokens"] + 1},
        {"batch_tokens": 10**30},
    ],
)
def test_param_outside_its_range_is_a_bad_request(ask: Callable[..., Any], params: dict[str, Any]) -> None:
    status, answer = ask("cola", {"inputs": {"sentence1": [GOOD]}, "params": params})
    assert status == 400
    (name,) = params
    assert name in answer["message"] and "Traceback" not in json.dumps(answer) and "stack_trace" not in answer


@pytest.mark.parametrize("params", [{}, {"max_characters": 5}, HIGHEST])
def test_params_within_their_range_are_applied(ask: Callable[..., Any], params: dict[str, Any]) -> None:
    status, answer = ask("cola", {"inputs": {"sentence1": [GOOD]}, "params": params})
    assert status == 200
    assert bool(answer["predictions"][0]["error"]) == (params.get("max_characters") == 5)


def test_answers_have_nan_in_pandas_and_none_as_records() -> None:
    answers = Answers({"score": [0.5, float("nan")], "prediction": [1, -1]})
    assert answers.dtypes.map(str).tolist() == ["float64", "int64"]
    assert answers.to_dict("records") == [{"score": 0.5, "prediction": 1}, {"score": None, "prediction": -1}]
    assert type(answers[["score"]]) is pd.DataFrame
