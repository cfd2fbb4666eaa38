"""WordPiece encoding with the checkpoint's own tokenizer: texts in, token ids out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

from distilspark.errors import UserError

UNKNOWN = "[UNK]"
CHUNK = 10_000  # rows: a tokenizers.Encoding takes many times the memory of its ids


@dataclass(frozen=True)
class Encoded:
    """Token ids of rows, special tokens included, not padded."""

    token_ids: list[NDArray[np.int32]]
    lengths: NDArray[np.int64]
    full_lengths: NDArray[np.int64]  # before truncation to the maximum
    unknown: NDArray[np.int64]  # number of unknown tokens among those

    def to_frame(self) -> pd.DataFrame:
        """Return the columns `token_ids`, `tokens` (before truncation) and `unknown_tokens`."""
        counts = {"tokens": self.full_lengths, "unknown_tokens": self.unknown}
        return pd.DataFrame({"token_ids": pd.Series(self.token_ids, dtype=object), **counts})

    @classmethod
    def from_frame(cls, rows: pd.DataFrame) -> Encoded:
        """Read the columns that `to_frame` returns."""
        token_ids = rows["token_ids"].tolist()
        lengths = np.array([len(ids) for ids in token_ids], dtype=np.int64)
        return cls(token_ids, lengths, rows["tokens"].to_numpy(np.int64), rows["unknown_tokens"].to_numpy(np.int64))


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load a checkpoint's tokenizer from `tokenizer.json`, else BERT's over `vocab.txt`; it neither truncates nor pads.

    Raises:
        UserError: the folder holds neither, or the file cannot be read.

    """
    try:
        if (folder / "tokenizer.json").is_file():
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        elif (folder / "vocab.txt").is_file():
            tokenizer = _wordpiece(folder)
        else:
            raise UserError(f"{folder}: no tokenizer.json and no vocab.txt; a checkpoint needs one of them")
    except UserError:
        raise
    except Exception as error:  # tokenizers raises bare exceptions
        raise UserError(f"{folder}: the tokenizer cannot be read ({error}); fetch the checkpoint again") from error
    return _without_truncation(tokenizer)


def tokenizer_from_json(text: str) -> Tokenizer:
    """Read what `Tokenizer.to_str` returned; the tokenizer neither truncates nor pads."""
    return _without_truncation(Tokenizer.from_str(text))


def _without_truncation(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _wordpiece(folder: Path) -> Tokenizer:
    settings = folder / "tokenizer_config.json"
    options = json.loads(settings.read_text()) if settings.is_file() else {}
    tokenizer = BertWordPieceTokenizer(
        str(folder / "vocab.txt"),
        lowercase=options.get("do_lower_case", True),
        strip_accents=options.get("strip_accents"),
        handle_chinese_chars=options.get("tokenize_chinese_chars", True),
    )
    return Tokenizer.from_str(tokenizer.to_str())


def encode(tokenizer: Tokenizer, sentence1: Sequence[str], sentence2: Sequence[str] | None, max_length: int) -> Encoded:
    """Encode single sentences, or pairs jointly, and truncate them to `max_length` tokens, special tokens included.

    A pair loses tokens from the end of its longer sentence first, as transformers' `longest_first` does. The tokenizer
    is not changed; it must neither truncate nor pad (`load_tokenizer`), and may be shared by threads.
    """
    rows = list(sentence1) if sentence2 is None else list(zip(sentence1, sentence2, strict=True))
    unknown_id = tokenizer.token_to_id(UNKNOWN)
    token_ids, full_lengths, unknown = [], [], []
    for start in range(0, len(rows), CHUNK):
        for encoding in tokenizer.encode_batch_fast(rows[start : start + CHUNK]):
            ids = encoding.ids
            token_ids.append(_truncate(encoding, ids, max_length))
            full_lengths.append(len(ids))
            unknown.append(ids.count(unknown_id) if unknown_id is not None else 0)
    counts = ([len(ids) for ids in token_ids], full_lengths, unknown)
    return Encoded(token_ids, *(np.array(count, dtype=np.int64) for count in counts))


def _truncate(encoding: Encoding, all_ids: list[int], max_length: int) -> NDArray[np.int32]:
    ids = np.array(all_ids, dtype=np.int32)
    if len(ids) <= max_length:
        return ids
    # None, for special tokens, becomes NaN, which belongs to no sentence
    owner = np.array(encoding.sequence_ids, dtype=float)
    first, second = owner == 0, owner == 1
    specials = len(ids) - first.sum() - second.sum()
    limit1, limit2 = _longest_first(int(first.sum()), int(second.sum()), max_length - int(specials))
    removed = (first & (np.cumsum(first) > limit1)) | (second & (np.cumsum(second) > limit2))
    return ids[~removed]


def _longest_first(length1: int, length2: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each sentence remain: the longer is cut to the shorter's length, then both equally.

    >>> _longest_first(10, 3, 8), _longest_first(10, 9, 7), _longest_first(10, 0, 6)
    ((5, 3), (4, 3), (6, 0))
    """
    shorter = min(length1, length2)
    if 2 * shorter <= room:
        longer = room - shorter
        return (longer, shorter) if length1 > length2 else (shorter, longer)
    return (room - room // 2, room // 2) if length1 > length2 else (room // 2, room - room // 2)
