"""Rival: a Hugging Face pipeline on PyTorch, 32 sentences a batch, in a Spark pandas UDF."""

from __future__ import annotations

import pandas as pd

from spark_job import Predict, run

MAX_LENGTH = 64
BATCH_SIZE = 32


def load(folder: str) -> Predict:
    """Load the pipeline with one thread."""
    import torch
    from transformers import pipeline

    torch.set_num_threads(1)
    classify = pipeline("text-classification", model=folder, device="cpu", batch_size=BATCH_SIZE)
    ids = classify.model.config.label2id

    def predict(sentences: list[str]) -> pd.DataFrame:
        answers = classify(sentences, truncation=True, max_length=MAX_LENGTH)
        return pd.DataFrame(
            {"prediction": [ids[each["label"]] for each in answers], "score": [each["score"] for each in answers]}
        )

    return predict


if __name__ == "__main__":
    run(load)
