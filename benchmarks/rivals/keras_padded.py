"""Rival: Keras `predict` with every sentence padded to 64 tokens, 8 a batch, in a Spark pandas UDF."""

from __future__ import annotations

import os

import pandas as pd

from spark_job import Predict, run

MAX_LENGTH = 64
BATCH_SIZE = 8


def load(folder: str) -> Predict:
    """Load the network with one thread, compiled for its only shape."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras
    import keras_hub  # noqa: F401 (knows the layers of the saved network)
    import tensorflow as tf
    from transformers import AutoTokenizer

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = keras.models.load_model(f"{folder}/network.keras")

    def predict(sentences: list[str]) -> pd.DataFrame:
        cut = {"truncation": True, "max_length": MAX_LENGTH}
        encoded = tokenizer(sentences, padding="max_length", return_tensors="np", **cut)
        inputs = {"token_ids": encoded["input_ids"], "padding_mask": encoded["attention_mask"]}
        logits = network.predict(inputs, batch_size=BATCH_SIZE, verbose=0)
        probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
        return pd.DataFrame({"prediction": probabilities.argmax(axis=1), "score": probabilities.max(axis=1)})

    predict(["Compile."] * BATCH_SIZE)
    return predict


if __name__ == "__main__":
    run(load)
