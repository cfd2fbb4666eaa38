"""Damage to a checkpoint's files."""

from __future__ import annotations

from pathlib import Path


def flip_a_byte(file: Path) -> None:
    """Change the last byte."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
