"""A decision threshold folded into the network, so that the more probable label is the predicted one."""

from __future__ import annotations

import keras
import numpy as np


def fold_threshold(network: keras.Model, threshold: float) -> None:
    """Shift the last layer's bias in place, so that label 1 is the more probable one if it was above `threshold`.

    Its odds are multiplied by (1 - threshold) / threshold, which is Bayes' rule for label shares other than
    those of training (Saerens, Latinne and Decaestecker 2002). The folded network's threshold is .5, so metrics,
    intervals, the int8 graph and every scorer need no threshold of their own.
    """
    bias = network.get_layer("classifier").bias
    bias.assign(bias + np.array([0.0, np.log1p(-threshold) - np.log(threshold)], dtype=np.float32))
