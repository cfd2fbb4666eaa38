"""The outputs of a network for encoded rows, in the rows' order."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distilspark.features.buckets import pad, scoring_batches
from distilspark.features.encoding import Encoded
from distilspark.training.batches import INPUTS
from distilspark.training.precision import computing_in

Outputs = NDArray[np.float32]


class Predictor:
    """A network's forward pass in float32, traced once for batches of every shape."""

    def __init__(self, network: keras.Model, batch_tokens: int, bucket_width: int) -> None:
        """`batch_tokens`: padded tokens in one call; `bucket_width`: a batch is padded to the next multiple of it."""
        self.network, self.batch_tokens, self.bucket_width = network, batch_tokens, bucket_width
        self._forward = tf.function(self._call_network, input_signature=[INPUTS])

    def raw_outputs(self, encoded: Encoded) -> Outputs:
        """Return logits or values, (n, units), in the order of `encoded`."""
        batches = scoring_batches(encoded.lengths, self.batch_tokens, self.bucket_width)
        outputs = np.empty((len(encoded.lengths), self.network.output_shape[-1]), np.float32)
        for rows in batches:
            inputs: Any = pad([encoded.token_ids[row] for row in rows], self.bucket_width)
            outputs[rows] = self._forward({name: tf.constant(value) for name, value in inputs.items()}).numpy()
        return outputs

    def _call_network(self, inputs: Any) -> Any:
        with computing_in(self.network, "float32"):
            return self.network(inputs, training=False)
