"""WordPiece encoding equals that of transformers' tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from distilspark.errors import UserError
from distilspark.features.encoding import encode, load_tokenizer

SENTENCES = [
    "The cat sat on the mat.",
    "",
    "It is not.",
    "Café 42% (naïve)… she asked who the dog was, and he said: it's!",
    "a" * 150,
    "日本 text\twith\nbreaks  and [SEP] [UNK] tokens",
    "the " * 90,
]


@pytest.fixture(scope="module")
def transformers_tokenizer(tiny_folder: Path):
    """Transformers' fast tokenizer for the same checkpoint."""
    from transformers import BertTokenizerFast

    return BertTokenizerFast.from_pretrained(tiny_folder)


def as_lists(arrays: list[np.ndarray]) -> list[list[int]]:
    return [array.tolist() for array in arrays]


@pytest.mark.parametrize("max_length", [8, 13, 64, 512])
def test_single_sentences_equal_transformers(tiny_folder: Path, transformers_tokenizer, max_length: int) -> None:
    encoded = encode(load_tokenizer(tiny_folder), SENTENCES, None, max_length)
    expected = transformers_tokenizer(SENTENCES, truncation=True, max_length=max_length)["input_ids"]
    assert as_lists(encoded.token_ids) == expected
    assert encoded.lengths.tolist() == [len(ids) for ids in expected]
    whole = transformers_tokenizer(SENTENCES)["input_ids"]
    assert encoded.full_lengths.tolist() == [len(ids) for ids in whole]
    assert encoded.unknown.tolist() == [ids.count(transformers_tokenizer.unk_token_id) for ids in whole]
    assert encoded.unknown.sum() > 2


@pytest.mark.parametrize("max_length", [8, 9, 20, 37, 64, 512])
def test_pairs_are_truncated_longest_first_like_transformers(
    tiny_folder: Path, transformers_tokenizer, max_length: int
) -> None:
    pairs = [(first, second) for first in SENTENCES for second in SENTENCES]
    firsts, seconds = (list(side) for side in zip(*pairs, strict=True))
    encoded = encode(load_tokenizer(tiny_folder), firsts, seconds, max_length)
    expected = transformers_tokenizer(firsts, seconds, truncation="longest_first", max_length=max_length)["input_ids"]
    assert as_lists(encoded.token_ids) == expected
    full = [len(ids) for ids in transformers_tokenizer(firsts, seconds)["input_ids"]]
    assert encoded.full_lengths.tolist() == full
    assert max(encoded.lengths) <= max_length


def test_truncation_and_padding_of_tokenizer_json_are_ignored(tiny_folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_folder)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=99)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoded = encode(load_tokenizer(tmp_path), ["the cat sat on the mat"], None, 64)
    assert (
        encoded.token_ids[0].tolist()
        == encode(load_tokenizer(tiny_folder), ["the cat sat on the mat"], None, 64).token_ids[0].tolist()
    )
    assert encoded.lengths.tolist() == encoded.full_lengths.tolist()


@pytest.mark.parametrize(
    "settings", [{}, {"do_lower_case": False}, {"strip_accents": False}, {"tokenize_chinese_chars": False}]
)
def test_tokenizer_from_vocab_txt_alone_equals_transformers(
    tiny_folder: Path, tmp_path: Path, settings: dict[str, bool]
) -> None:
    from transformers import BertTokenizerFast

    shutil.copy(tiny_folder / "vocab.txt", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    expected = BertTokenizerFast.from_pretrained(tmp_path)(SENTENCES)["input_ids"]
    assert as_lists(encode(load_tokenizer(tmp_path), SENTENCES, None, 512).token_ids) == expected


def test_encoding_does_not_change_the_tokenizer(tiny_folder: Path) -> None:
    tokenizer = load_tokenizer(tiny_folder)
    before = tokenizer.to_str()
    encode(tokenizer, SENTENCES, SENTENCES, 16)
    assert tokenizer.to_str() == before


def test_encoding_accepts_no_rows_and_refuses_unequal_columns(tiny_folder: Path) -> None:
    encoded = encode(load_tokenizer(tiny_folder), [], None, 16)
    assert (encoded.token_ids, encoded.lengths.shape, encoded.full_lengths.shape) == ([], (0,), (0,))
    with pytest.raises(ValueError, match="shorter"):
        encode(load_tokenizer(tiny_folder), ["a", "b"], ["a"], 16)


def test_missing_or_broken_tokenizer_raises_with_the_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path}: .*tokenizer.json .*vocab.txt"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=f"{tmp_path}: the tokenizer "):
        load_tokenizer(tmp_path)
