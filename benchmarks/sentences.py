"""Example sentences for the README, and a trained model's predictions of them."""

from __future__ import annotations

from typing import Any

import mlflow
import pandas as pd

ACCEPTABLE = {  # by task and sentence
    "cola": {
        "The students who met the teacher were late.": True,
        "She are happy.": False,
        "Which book did you read on the train?": True,
        "Book the read you which train on did?": False,
        "They have have gone home.": False,
        "The children enjoyed to swim.": False,
    }
}


def predict_sentences(task: str, model_uri: str) -> list[dict[str, Any]]:
    """Return each of the task's sentences with its label, the predicted label and that one's probability."""
    if not (sentences := ACCEPTABLE.get(task)):
        return []
    answers = mlflow.pyfunc.load_model(model_uri).predict(pd.DataFrame({"sentence1": list(sentences)}))
    return [
        {
            "sentence": sentence,
            "acceptable": acceptable,
            "predicted": bool(answer.prediction == 1),
            "probability": round(float(answer.score), 4),
        }
        for (sentence, acceptable), answer in zip(sentences.items(), answers.itertuples(), strict=True)
    ]
