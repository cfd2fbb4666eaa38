"""The packaged model as MLflow loads it: tokenizer and ONNX graph, no TensorFlow, no pickle.

Packaged with the model (`code_paths`); imports only the modules of the project that scoring needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from distilspark.data.text_rules import MAX_CHARACTERS, find_text_problems
from distilspark.features.buckets import pad, scoring_batches
from distilspark.features.encoding import Encoded, encode, load_tokenizer
from distilspark.features.stop_words import drop_stop_words
from distilspark.heads import HEADS
from distilspark.package.runtime import (
    available_memory,
    available_threads,
    derive_batch_tokens,
    limit_tokenizer,
    open_graph,
    spark_cpus,
)
from distilspark.package.serving import Answers, RequestError, keep_types_of_requests

GRAPH = "model.onnx"
SETTINGS = "scorer.json"
PARAMS = {"max_characters": MAX_CHARACTERS, "batch_tokens": 0}  # batch_tokens 0: derived from memory and threads
LOWEST = {"max_characters": 1, "batch_tokens": 0}
HIGHEST = {"max_characters": PARAMS["max_characters"], "batch_tokens": 2**14}  # for callers other than Spark jobs
BUCKET_WIDTH = 1  # rows come sorted: padding to a common multiple would only add work


class Scorer:
    """A thread-safe model from raw text to predictions."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        """`folder` holds `model.onnx`, `tokenizer.json` and `scorer.json` (`distilspark.package.build`)."""
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        self.labels: list[str] = settings["labels"]
        # packages of 0.1.0 do not name their head
        self.head = HEADS[settings.get("head", "classification" if self.labels else "regression")]
        self.columns: list[str] = settings["columns"]
        self.max_length: int = settings["max_length"]
        self.stop_words = frozenset(settings["stop_words"])
        self.threads = threads or available_threads()
        limit_tokenizer()
        self.tokenizer = load_tokenizer(folder)
        self.session = open_graph(folder / GRAPH, self.threads)
        self.batch_tokens = derive_batch_tokens(self.threads, available_memory())

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return one row of predictions for each row, in the same order, also for invalid rows.

        Classification: `prediction` (label id), `label` (its name), `score` (its probability, of two labels .5 or more:
        a decision threshold has shifted the odds in the network itself).
        Regression: `prediction`. Both: `error`, `tokens` (the row's before cutting, special tokens included) and
        `unknown_tokens` (how many of them the vocabulary lacks).
        A row that cannot be scored has an `error`, prediction -1 or NaN, label "", score NaN and no tokens.

        Args:
            model_input: the task's text columns; others are not read.
            params: `max_characters`, more are an error; `batch_tokens`, padded tokens in one call of the network. At
                most `HIGHEST`, except in a Spark job, which sets its own.

        Raises:
            RequestError: a param is out of its range.

        """
        limits = _check_params(PARAMS | (params or {}))
        errors = find_text_problems(model_input, self.columns, limits["max_characters"])
        good = np.flatnonzero(errors == "")
        encoded = self.encode(model_input.iloc[good])
        outputs = self.head.shape(self._run(encoded, limits["batch_tokens"] or self.batch_tokens).astype(np.float64))
        counts = np.zeros((2, len(errors)), np.int64)
        counts[:, good] = encoded.full_lengths, encoded.unknown
        told = {"error": errors, "tokens": counts[0], "unknown_tokens": counts[1]}
        return Answers(self._answers(outputs, good, len(errors)) | told)

    def outputs(self, rows: pd.DataFrame) -> NDArray[np.float32]:
        """Return (n, units): probabilities or values, in the order of the rows; all of them must be text."""
        return self._run(self.encode(rows), self.batch_tokens)

    @property
    def _units(self) -> int:
        return self.session.get_outputs()[0].shape[1]

    def encode(self, rows: pd.DataFrame) -> Encoded:
        """Encode rows, all of which must be text."""
        sentences = [self._read(rows[column]) for column in self.columns]
        return encode(self.tokenizer, sentences[0], sentences[1] if len(sentences) > 1 else None, self.max_length)

    def _read(self, texts: pd.Series[str]) -> list[str]:
        """Return the texts as the network was trained on them."""
        if not self.stop_words:
            return texts.tolist()
        return [drop_stop_words(text, self.stop_words) for text in texts]

    def _run(self, encoded: Encoded, batch_tokens: int) -> NDArray[np.float32]:
        outputs = np.empty((len(encoded.lengths), self._units), np.float32)
        for batch in scoring_batches(encoded.lengths, batch_tokens, BUCKET_WIDTH):
            inputs = pad([encoded.token_ids[row] for row in batch], BUCKET_WIDTH)
            outputs[batch] = self.session.run(None, {name: value.astype(np.int64) for name, value in inputs.items()})[0]
        return outputs

    def _answers(self, outputs: NDArray[Any], good: NDArray[np.int64], rows: int) -> dict[str, NDArray[Any]]:
        """Return the answers for all rows, given the outputs for the good ones."""
        answers = self.head.answer(self.labels, outputs)
        columns = {
            answer.name: np.full(rows, answer.missing, answers[answer.name].dtype) for answer in self.head.answers
        }
        for name, values in answers.items():
            columns[name][good] = values
        return columns


def _check_params(params: Mapping[str, Any]) -> Mapping[str, int]:
    is_own_job = spark_cpus() is not None
    for name, least in LOWEST.items():
        value, most = params[name], HIGHEST[name]
        if value is None or value < least or (value > most and not is_own_job):
            raise RequestError(f"{name}={value}: it is {least} to {most}")
    return params


def _load_pyfunc(path: str) -> Scorer:
    """Load the model from its data folder, once a process; `mlflow.pyfunc.load_model` calls this."""
    folder = Path(path).resolve()
    stamp = tuple((folder / name).stat().st_mtime_ns for name in (GRAPH, SETTINGS))
    with _LOADING:
        keep_types_of_requests()
        return _load(folder, stamp, available_threads())


_LOADING = Lock()


@lru_cache(maxsize=2)  # a champion and its challenger
def _load(folder: Path, stamp: tuple[int, ...], threads: int) -> Scorer:
    return Scorer(folder, threads)
