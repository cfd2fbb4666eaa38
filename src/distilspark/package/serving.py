"""Corrections for MLflow's scoring server, which by itself would score null as text and answer with NaN.

Packaged with the model, as `distilspark.package.pyfunc` is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from distilspark.errors import UserError

SERVER = "mlflow.pyfunc.scoring_server"
FORMS = ("inputs", "instances")


class RequestError(UserError, MlflowException):
    """An invalid request: the server answers 400 with the message, and without a traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=BAD_REQUEST)


class Answers(pd.DataFrame):
    """A table of answers, whose missing numbers are null in JSON.

    MLflow's server and `mlflow models predict` write the result of `to_dict`, and JSON has no NaN.
    """

    def to_dict(self, *args: Any, **named: Any) -> Any:
        """Convert as pandas does, with None for NaN."""
        return self.astype(object).where(self.notna(), None).to_dict(*args, **named)


def keep_types_of_requests() -> None:
    """Patch this process's scoring server, if it is one, to keep the types of the forms `inputs` and `instances`.

    MLflow casts them by NumPy, which converts everything in a column of strings to strings: null to "None", 7 to "7".
    Nothing in a signature prevents it: a column of `AnyType` cannot be read from CSV.
    """
    server: Any = sys.modules.get(SERVER)
    if server and not hasattr(server.infer_and_parse_data, "__wrapped__"):
        server.infer_and_parse_data = _keep_types(server.infer_and_parse_data)


def _keep_types(parse: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(parse)
    def keep(data: dict[str, Any], schema: Any = None) -> Any:
        form, *others = data or [""]
        if others or form not in FORMS or schema is None:
            return parse(data, schema)
        return read_form(data[form], schema.input_names())

    return keep


def read_form(given: Any, columns: list[str]) -> pd.DataFrame:
    """Read a list of rows, lists by column, one row, or the list of a single column, without changing values.

    >>> read_form(["a", None], ["text"]).equals(read_form([{"text": "a"}, {"text": None}], ["text"]))
    True

    Raises:
        RequestError: it is none of these.

    """
    if isinstance(given, list) and len(columns) == 1 and not any(isinstance(value, dict) for value in given):
        given = {columns[0]: given}
    if isinstance(given, dict) and not any(isinstance(value, list) for value in given.values()):
        given = [given]
    try:
        return pd.DataFrame(given, dtype=object)
    except (TypeError, ValueError) as error:
        raise RequestError(f"no table of {', '.join(columns)}: {error}") from error
