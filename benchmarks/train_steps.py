"""Some training steps in this project's way, or in the report's: Keras's Adam, every row padded to 64 tokens.

`train_steps.py WAY TASK MODEL ROWS BATCH STEPS PRECISION` prints the figures of `StepClock` as JSON. ROWS is a
parquet file of `sentence1`, optionally `sentence2`, and `label`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir

from distilspark.config import TrainConfig, from_hydra
from distilspark.features.encoding import encode, load_tokenizer
from distilspark.model.checkpoints import fetch
from distilspark.model.losses import make_loss
from distilspark.paths import CONF
from distilspark.training.batches import Examples
from distilspark.training.distributed.strategy import SINGLE_PROCESS
from distilspark.training.loop import build_initial_network, compile_network
from distilspark.training.precision import computing_in
from distilspark.training.targets import make_target_transform
from step_clock import StepClock

WAYS = {"ours": [], "padded": ["training.bucket_width=64"]}


class ClockCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Call the clock after each step."""

    def __init__(self, clock: StepClock) -> None:
        super().__init__()
        self.clock = clock

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.clock.tick()


def main() -> None:
    """Train on the first batches of the first epoch."""
    way, task, model, source, batch, steps, precision = sys.argv[1:]
    changed = [f"task={task}", f"model={model}", f"training.batch_size={batch}", f"training.precision={precision}"]
    fixed = ["training.learning_rate=5e-5", "training.class_weights=off", "training.pretraining.rows=0"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = from_hydra(TrainConfig, compose("train", [*changed, *WAYS[way], *fixed]))
    table, checkpoint = pd.read_parquet(source), fetch(config.model)
    pairs = table["sentence2"].tolist() if "sentence2" in table else None
    encoded = encode(load_tokenizer(checkpoint), table["sentence1"].tolist(), pairs, config.model.max_length)
    examples = Examples(encoded, table["label"].to_numpy(np.float64))
    network = build_initial_network(config, checkpoint)
    target = make_target_transform(examples.labels, config.task, config.training)
    batches = SINGLE_PROCESS.make_batches(examples, target, config.training)
    if way == "ours":
        compile_network(network, config.training, len(batches), SINGLE_PROCESS)
    else:
        loss = make_loss(config.training.loss)
        network.compile(optimizer=keras.optimizers.Adam(5e-5), loss=loss, jit_compile=False)
    clock = StepClock(int(batch))
    with computing_in(network, config.training.precision):
        network.fit(batches.dataset().take(int(steps)), verbose=0, callbacks=[ClockCallback(clock)])
    print(json.dumps(clock.figures()))


if __name__ == "__main__":
    main()
