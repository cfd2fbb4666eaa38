"""Training in bfloat16: the number format of the transformer layers' computations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras
from keras_hub.layers import TransformerEncoder

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # Keras's names


@contextmanager
def computing_in(network: keras.Model, compute_type: str) -> Iterator[None]:
    """Let the transformer layers compute in `compute_type` in functions that TensorFlow traces inside the block.

    Weights, gradients, optimizer, embeddings, head and loss stay in float32 (Micikevicius et al. 2018). bfloat16 has
    float32's range, so the loss needs no scaling (Kalamkar et al. 2019). A table of embeddings that is converted would
    have a dense gradient.
    """
    encoders = [layer for layer in network._flatten_layers() if isinstance(layer, TransformerEncoder)]
    parts = [part for encoder in encoders for part in encoder._flatten_layers()]
    before = [part.dtype_policy for part in parts]
    try:
        for part in parts:
            part.dtype_policy = POLICIES[compute_type]
        yield
    finally:
        for part, policy in zip(parts, before, strict=True):
            part.dtype_policy = policy
