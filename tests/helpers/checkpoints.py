"""Damage checkpoints, or interrupt a training right after one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distilspark.training.checkpoint.store import CheckpointFolder


class Interrupting(CheckpointFolder):
    """Interrupts the process right after `left` checkpoints."""

    left = 0

    def save(self, arrays: Any, state: Any) -> Path:
        """Save, then interrupt when none is left."""
        file = super().save(arrays, state)
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return file


def flip_a_byte(file: Path) -> None:
    """Flip a bit of the last byte."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
