"""Rival: Hugging Face's Trainer on PyTorch, with rows grouped by length.

`trainer.py CHECKPOINT ROWS OUTPUTS BATCH STEPS PRECISION` prints the figures of `step_clock.StepClock` as JSON. ROWS is
a parquet file of `sentence1`, optionally `sentence2`, and `label`; if OUTPUTS is 1, the labels are numbers.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

sys.path.insert(0, str(Path(__file__).parents[1]))
from step_clock import StepClock

MAX_LENGTH = 64


class ClockCallback(TrainerCallback):  # type: ignore[misc]
    """Call the clock after each step."""

    def __init__(self, clock: StepClock) -> None:
        self.clock = clock

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.clock.tick()


class Rows:
    """Encoded rows in the format of Trainer, which reads `input_ids` to group them by length."""

    def __init__(self, encoded: dict[str, list[list[int]]], labels: list[Any]) -> None:
        self.encoded, self.labels = encoded, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: values[index] for name, values in self.encoded.items()} | {"labels": self.labels[index]}


def main() -> None:
    """Train for some steps with the usual recipe."""
    checkpoint, source, outputs, batch, steps, precision = sys.argv[1:]
    table = pd.read_parquet(source)
    texts = [table[name].tolist() for name in ("sentence1", "sentence2") if name in table]
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    encoded = dict(tokenizer(*texts, truncation=True, max_length=MAX_LENGTH, return_token_type_ids=False))
    labels = table["label"].astype("float32" if outputs == "1" else "int64").tolist()
    network = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=int(outputs))
    clock = StepClock(int(batch))
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder,
            per_device_train_batch_size=int(batch),
            max_steps=int(steps),
            train_sampling_strategy="group_by_length",
            bf16=precision == "bfloat16",
            learning_rate=5e-5,
            weight_decay=0.01,
            warmup_steps=0.1,
            max_grad_norm=1.0,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        collate = DataCollatorWithPadding(tokenizer)
        trainer = Trainer(network, settings, collate, Rows(encoded, labels), callbacks=[ClockCallback(clock)])
        trainer.train()
    print(json.dumps(clock.figures()))


if __name__ == "__main__":
    main()
