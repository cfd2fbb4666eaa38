"""The pipeline's stop-word filter without Spark, for a packaged model whose network was trained on filtered text."""

from __future__ import annotations

import re
from collections.abc import Set

SPACE = re.compile(r"[ \t\n\x0b\f\r]+")  # the separators of Spark's tokenizer


def drop_stop_words(text: str, stop_words: Set[str]) -> str:
    """Remove stop words from a text, and lower-case it; a text of stop words only keeps them.

    >>> drop_stop_words("The cat sat on THE mat.", {"the", "on"})
    'cat sat mat.'
    >>> drop_stop_words("On the", {"the", "on"})
    'on the'
    """
    words = [word for word in SPACE.split(text.lower()) if word]
    return " ".join([word for word in words if word not in stop_words] or words)
