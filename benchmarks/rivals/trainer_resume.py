"""Rival: Hugging Face's Trainer on PyTorch, killed within an epoch and restarted.

`trainer_resume.py CHECKPOINT ROWS OUTPUT SAMPLING KILL_AT` trains into OUTPUT, from its last checkpoint if any; it
kills itself (SIGKILL) after step KILL_AT (0: never). `benchmarks/resume.py` runs it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

SETTINGS = Path(__file__).with_name("resume_settings.json")


class KillCallback(TrainerCallback):  # type: ignore[misc]
    """Kill this process after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Train with the settings shared by both tools."""
    checkpoint, source, output, sampling, kill_at = sys.argv[1:]
    settings, rows = json.loads(SETTINGS.read_text()), json.loads(Path(source).read_text())
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    encoded = tokenizer(rows["sentence1"], truncation=True, max_length=64, return_token_type_ids=False)
    dataset = [
        {**{name: values[row] for name, values in encoded.items()}, "labels": label}
        for row, label in enumerate(rows["label"])
    ]
    arguments = TrainingArguments(
        output,
        num_train_epochs=settings["epochs"],
        per_device_train_batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        weight_decay=0.01,
        warmup_steps=0.1,
        seed=settings["seed"],
        full_determinism=True,
        train_sampling_strategy=sampling,
        use_cpu=True,
        save_strategy="steps",
        save_steps=settings["checkpoint_every"],
        save_total_limit=2,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )

    def network() -> Any:
        return AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2)

    collate = DataCollatorWithPadding(tokenizer)
    callbacks = [KillCallback(int(kill_at))]
    trainer = Trainer(None, arguments, collate, dataset, model_init=network, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=bool(list(Path(output).glob("checkpoint-*"))))
    trainer.save_model(f"{output}/final")


if __name__ == "__main__":
    main()
