"""The packaged model as MLflow loads it: tokenizer and ONNX graph, no TensorFlow, no pickle.

Travels with the model (`code_paths`), and imports nothing of the project but what scoring needs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from numpy.typing import NDArray

from distilspark.features.buckets import pad, scoring_batches
from distilspark.features.encoding import encode, load_tokenizer
from distilspark.features.stop_words import drop_stop_words

BUCKET_WIDTH = 8
BATCH_TOKENS = 4096


class Scorer:
    """Raw text in, predictions out."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds `model.onnx`, `tokenizer.json` and `scorer.json` (`distilspark.scoring.package`)."""
        settings = json.loads((folder / "scorer.json").read_text(encoding="utf-8"))
        self.labels: list[str] = settings["labels"]
        self.columns: list[str] = settings["columns"]
        self.max_length: int = settings["max_length"]
        self.stop_words = frozenset(settings["stop_words"])
        self.tokenizer = load_tokenizer(folder)
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row of predictions for each row of text.

        Classification: `prediction` (label id), `label` (its name), `score` (its probability).
        Regression: `prediction`.
        """
        outputs = self.outputs(model_input)
        if not self.labels:
            return pd.DataFrame({"prediction": outputs[:, 0].astype(np.float64)})
        predicted = outputs.argmax(axis=1)
        return pd.DataFrame(
            {
                "prediction": predicted.astype(np.int64),
                "label": [self.labels[label] for label in predicted],
                "score": outputs[np.arange(len(outputs)), predicted].astype(np.float64),
            }
        )

    def outputs(self, rows: pd.DataFrame) -> NDArray[np.float32]:
        """(n, units): probabilities or values, in the order of the rows."""
        sentences = [self._read(rows[column]) for column in self.columns]
        encoded = encode(self.tokenizer, sentences[0], sentences[1] if len(sentences) > 1 else None, self.max_length)
        units = self.session.get_outputs()[0].shape[1]
        outputs = np.empty((len(rows), units), np.float32)
        for batch in scoring_batches(encoded.lengths, BATCH_TOKENS, BUCKET_WIDTH):
            inputs = pad([encoded.token_ids[row] for row in batch], BUCKET_WIDTH)
            outputs[batch] = self.session.run(None, {name: value.astype(np.int64) for name, value in inputs.items()})[0]
        return outputs

    def _read(self, texts: pd.Series[str]) -> list[str]:
        """The texts as the network was trained on them."""
        if not self.stop_words:
            return texts.tolist()
        return [drop_stop_words(text, self.stop_words) for text in texts]


def _load_pyfunc(path: str) -> Scorer:
    """What `mlflow.pyfunc.load_model` calls with the model's data folder."""
    return Scorer(Path(path))
