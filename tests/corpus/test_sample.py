"""The sample corpus: formats, sizes, labels, disjoint splits, and scores that follow meaning."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import mean, pstdev

import pytest

from distilspark.corpus import acceptability, similarity
from distilspark.corpus.acceptability import IN_DOMAIN, OUT_OF_DOMAIN, PHENOMENA, contrast
from distilspark.corpus.concepts import actions, places, things
from distilspark.corpus.lexicon import SPLITS, own_words, shared_words
from distilspark.corpus.morphology import forms
from distilspark.corpus.sample import (
    CORPORA,
    check_pretraining,
    pretraining_rows,
    sample_corpus,
    vocabulary,
    write_corpus,
)
from distilspark.corpus.similarity import Mention, Scene, Style, exact_score, express, noisy_score, scored_pair
from distilspark.corpus.template import CONTRAST, WORD, choose, literals, take, violations
from distilspark.errors import UserError

ROWS = {"train": 1500, "dev": 600}
DIGESTS = {  # of the files for `ROWS` and seed 42; a change needs a new GRAMMAR_VERSION
    "train.tsv": "e002cd3bc7faf193",
    "dev.tsv": "18b8e062a359aa4b",
    "train.csv": "38708976762b81a7",
    "dev.csv": "8a06460e82eacbd9",
}
FILES = {"cola": "tsv", "stsb": "csv"}
SLOT = re.compile(r"\{([a-z]+)\d(?:\.[a-z_]+)?\}")


def read(path: Path) -> list[list[str]]:
    """Return rows as GLUE's readers do: plain tabs for TSV, RFC 4180 for CSV."""
    if path.suffix == ".tsv":
        return [line.split("\t") for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One corpus for each task."""
    made = {task: tmp_path_factory.mktemp(task) for task in CORPORA}
    for task, folder in made.items():
        write_corpus(folder, task, ROWS, seed=42)
    return made


@pytest.fixture(scope="module")
def cola(folders: dict[str, Path]) -> dict[str, list[list[str]]]:
    """Acceptability rows by split."""
    return {split: read(folders["cola"] / f"{split}.tsv") for split in SPLITS}


@pytest.fixture(scope="module")
def stsb(folders: dict[str, Path]) -> dict[str, list[list[str]]]:
    """Similarity rows by split."""
    return {split: read(folders["stsb"] / f"{split}.csv") for split in SPLITS}


def words(texts: list[str]) -> set[str]:
    return {word for text in texts for word in WORD.findall(text.lower())}


def test_every_listed_corpus_writes_one_file_per_split(folders: dict[str, Path]) -> None:
    assert tuple(CORPORA) == tuple(FILES)
    for task, folder in folders.items():
        assert {path.name for path in folder.iterdir()} == {f"{split}.{FILES[task]}" for split in ROWS}


@pytest.mark.parametrize("task", FILES)
def test_same_seed_gives_the_same_bytes_in_a_process_with_another_hash_seed(
    task: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    code = (
        "from distilspark.corpus.sample import write_corpus; from pathlib import Path; "
        f"write_corpus(Path({str(tmp_path)!r}), {task!r}, {ROWS!r}, 42)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    for split in ROWS:
        name = f"{split}.{FILES[task]}"
        assert (tmp_path / name).read_bytes() == (folders[task] / name).read_bytes()


def test_sample_corpus_of_a_seed_has_the_recorded_digests(folders: dict[str, Path]) -> None:
    files = [file for folder in folders.values() for file in folder.iterdir()]
    assert {file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files} == DIGESTS


@pytest.mark.parametrize("task", FILES)
def test_another_seed_gives_another_corpus(task: str, folders: dict[str, Path], tmp_path: Path) -> None:
    write_corpus(tmp_path, task, ROWS, seed=43)
    for split in ROWS:
        name = f"{split}.{FILES[task]}"
        assert (tmp_path / name).read_bytes() != (folders[task] / name).read_bytes()


def test_cola_rows_have_the_format_of_glue(folders: dict[str, Path], cola: dict[str, list[list[str]]]) -> None:
    for split, rows in cola.items():
        assert len(rows) == ROWS[split]
        for source, label, mark, sentence in rows:
            assert source in PHENOMENA
            assert (label, mark) in {("1", ""), ("0", "*")}
            assert sentence[0].isupper() and sentence[-1] in ".?"
            assert "  " not in sentence and not set(sentence) & set('{}[]()|#"')
    assert b"\r" not in (folders["cola"] / "train.tsv").read_bytes()


def test_cola_labels_and_lengths_are_like_colas(cola: dict[str, list[list[str]]]) -> None:
    for rows in cola.values():
        assert mean(int(row[1]) for row in rows) == pytest.approx(0.7, abs=0.002)
        lengths = [len(row[3].split()) for row in rows]
        assert 7 < mean(lengths) < 9 and min(lengths) >= 2 and 15 <= max(lengths) <= 26


def test_dev_is_half_in_domain_then_half_out_of_domain(cola: dict[str, list[list[str]]]) -> None:
    half = ROWS["dev"] // 2
    assert {row[0] for row in cola["train"]} == set(IN_DOMAIN)
    assert {row[0] for row in cola["dev"][:half]} == set(IN_DOMAIN)
    assert {row[0] for row in cola["dev"][half:]} == set(OUT_OF_DOMAIN)
    assert len(OUT_OF_DOMAIN) >= 3 and len(IN_DOMAIN) >= 15


def test_every_phenomenon_has_both_labels(cola: dict[str, list[list[str]]]) -> None:
    labels = defaultdict(Counter)
    for row in cola["train"] + cola["dev"]:
        labels[row[0]][row[1]] += 1
    assert set(labels) == set(PHENOMENA)
    assert all(min(counts["0"], counts["1"]) >= 10 for counts in labels.values())


@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_unacceptable_sentence_differs_from_its_pair_by_few_words(phenomenon: str) -> None:
    for seed in range(40):
        pair = contrast(phenomenon, SPLITS[seed % 2], Random(seed))
        here, there = pair.acceptable.lower().split(), pair.unacceptable.lower().split()
        changed = (Counter(here) - Counter(there)).total() + (Counter(there) - Counter(here)).total()
        assert pair.acceptable != pair.unacceptable
        assert changed <= 8, pair


@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_every_template_has_a_slot_with_words_of_one_split_only(phenomenon: str) -> None:
    """The acceptable sentence and each violation have such a slot."""
    owned = set(own_words("train"))
    for template in PHENOMENA[phenomenon].templates:
        for seed in range(20):
            chosen = choose(template, Random(seed))
            assert CONTRAST.search(chosen) and violations(chosen) >= 1, template
            for alternative in range(violations(chosen) + 1):
                assert owned & set(SLOT.findall(take(chosen, alternative))), template


def test_own_words_of_a_split_are_in_no_other_list() -> None:
    train, dev = (
        {form for kind in own_words(split).values() for word in kind for form in forms(word)} for split in SPLITS
    )
    common = {form for kind in shared_words().values() for word in kind for form in forms(word)}
    pronouns = {"he", "him", "his", "himself", "she", "her", "herself"}
    assert train & dev <= pronouns
    assert (train | dev) & common <= pronouns


def test_no_noun_or_name_is_in_both_splits(cola: dict[str, list[list[str]]]) -> None:
    common = words([form for kind in shared_words().values() for word in kind for form in forms(word)])
    common |= words([literal for about in PHENOMENA.values() for text in about.templates for literal in literals(text)])
    own = {
        split: words([str(form) for kind in own_words(split).values() for word in kind for form in forms(word)])
        for split in SPLITS
    }
    seen = {split: words([row[3] for row in rows]) for split, rows in cola.items()}
    assert not seen["train"] & (own["dev"] - own["train"] - common)
    assert not seen["dev"] & (own["train"] - own["dev"] - common)
    assert len(seen["dev"] & own["dev"]) > 100


@pytest.mark.parametrize("task", FILES)
def test_no_text_is_repeated_within_or_across_splits(task: str, folders: dict[str, Path]) -> None:
    rows = {split: read(folders[task] / f"{split}.{FILES[task]}") for split in SPLITS}
    texts = [tuple(row[3:] if task == "cola" else sorted(row[:2])) for split in SPLITS for row in rows[split]]
    assert len(texts) == len(set(texts)) == sum(ROWS.values())
    sentences = [{text for row in rows[split] for text in (row[3:] if task == "cola" else row[:2])} for split in SPLITS]
    assert not sentences[0] & sentences[1]


def test_stsb_rows_have_the_format_of_glue(folders: dict[str, Path], stsb: dict[str, list[list[str]]]) -> None:
    for split, rows in stsb.items():
        assert len(rows) == ROWS[split]
        for one, two, score in rows:
            assert one != two and one[0].isupper() and one.endswith(".") and "  " not in one + two
            assert float(score) in [step / 5 for step in range(26)] and score == f"{float(score):.1f}"
    raw = (folders["stsb"] / "train.csv").read_bytes()
    assert raw.count(b"\r\n") == raw.count(b"\n") == ROWS["train"]
    assert b'"' in raw  # sentences that begin with a place have a comma


def test_stsb_scores_are_spread_like_stsbs(stsb: dict[str, list[list[str]]]) -> None:
    for rows in stsb.values():
        scores = [float(row[2]) for row in rows]
        assert 2.4 < mean(scores) < 3.0 and 1.3 < pstdev(scores) < 1.6
        bands = Counter(min(int(score), 4) for score in scores)
        assert all(bands[band] > 0.1 * len(scores) for band in range(5))


@pytest.fixture
def scene() -> Scene:
    """A dog chases a cat (the first animals of the lists) in the park."""
    animals = [thing for thing in things("train")["animate"] if thing.domain == "animal"]
    chase = next(action for action in actions() if action.topic == "pursuit")
    return Scene(Mention(animals[0]), chase, Mention(animals[1]), place=places()[0])


def test_paraphrases_of_a_scene_score_near_five(scene: Scene) -> None:
    active, passive = Style(0, True, False, "active"), Style(1, False, True, "passive")
    assert exact_score(scene, scene) == 5
    assert express(scene, active) == "The dog is chasing the cat in the park."
    assert express(scene, passive) == "A feline was pursued by a hound in the park."
    assert noisy_score(scene, scene, Random(1)) >= 4.4


def test_swapped_roles_score_low_for_the_same_words(scene: Scene) -> None:
    swapped = similarity.swap_roles(scene, "train", Random(0))
    assert swapped is not None
    chosen = Style(0, True, False, "active")
    assert sorted(words([express(scene, chosen)])) == sorted(words([express(swapped, chosen)]))
    assert express(swapped, chosen) == "The cat is chasing the dog in the park."
    assert 0.5 < exact_score(scene, swapped) < 3


def test_larger_edits_lower_the_score_more(scene: Scene) -> None:
    number = replace(scene, agent=replace(scene.agent, plural=True))
    nowhere = replace(scene, place=None)
    elsewhere = replace(scene, place=places()[1])
    other_action = next(action for action in actions() if action.topic == "looking" and action.patients == "animate")
    action = replace(scene, action=other_action)
    both = replace(action, agent=Mention(things("train")["person"][0]))
    graded = [exact_score(scene, other) for other in (scene, number, nowhere, elsewhere, action, both)]
    assert all(better > worse for better, worse in pairwise(graded)), graded
    assert 1 <= exact_score(scene, replace(scene, negated=True)) <= 2


def test_meaning_is_symmetric_and_in_range() -> None:
    rng = Random(5)
    for _ in range(200):
        one, other = similarity.draw_scene("dev", rng), similarity.draw_scene("dev", rng)
        assert exact_score(one, other) == pytest.approx(exact_score(other, one))
        assert 0 <= exact_score(one, other) <= 5


@pytest.mark.parametrize(("edits"), [edits for _, edits in similarity.PLANS])
def test_every_plan_applies_to_some_scene(edits: tuple[similarity.Edit, ...]) -> None:
    rng = Random(9)
    derived = [similarity.derive(similarity.draw_scene("dev", rng), edits, "dev", rng) for _ in range(100)]
    assert any(derived)


def test_nouns_of_scenes_are_in_one_split_only() -> None:
    nouns = [
        {form for domain in things(split).values() for thing in domain for noun in thing.words for form in forms(noun)}
        for split in SPLITS
    ]
    assert not nouns[0] & nouns[1]


def test_vocabulary_holds_every_word() -> None:
    known = vocabulary()
    assert known == sorted(set(known)) and all(word.isalpha() and word.islower() for word in known)
    for split in SPLITS:
        rng = Random(split)
        sentences = [row.sentence for row in acceptability.judgements(split, 3000, rng)]
        pairs = [scored_pair(split, rng) for _ in range(3000)]
        said = words([*sentences, *(text for pair in pairs for text in (pair.sentence1, pair.sentence2))])
        assert said <= set(known), said - set(known)
    assert len(known) < 3000


@pytest.mark.slow
@pytest.mark.parametrize("task", FILES)
def test_grammar_generates_a_hundred_thousand_rows_for_pretraining(task: str) -> None:
    """And a thousand for validation; none can be in the sample corpus' dev."""
    generated = pretraining_rows(task, 101_000, 42)
    texts = list(zip(generated.sentence1, generated.sentence2 or generated.sentence1, strict=True))
    assert len({frozenset(pair) for pair in texts}) == len(generated.labels) == 101_000
    assert not {text for pair in texts for text in pair} & dev_sentences(task)
    assert pretraining_rows(task, 300, 42) == pretraining_rows(task, 300, 42) != pretraining_rows(task, 300, 43)


def dev_sentences(task: str) -> set[str]:
    """Return sentences that can occur in the sample corpus' dev."""
    if task == "cola":
        return {row.sentence for row in acceptability.judgements("dev", 10_000, Random(1))}
    pairs = similarity.scored_pairs("dev", 10_000, Random(1))
    return {text for pair in pairs for text in (pair.sentence1, pair.sentence2)}


def test_minimal_pairs_cover_all_phenomena_with_colas_share_of_acceptable_rows() -> None:
    rows = acceptability.minimal_pairs("train", 2200, Random(1))
    assert len({row.sentence for row in rows}) == len(rows) == 2200
    assert mean(row.label for row in rows) == pytest.approx(0.7, abs=0.001)
    counts = Counter(row.phenomenon for row in rows)
    assert set(counts) == set(PHENOMENA) and max(counts.values()) < 2 * min(counts.values())
    for before, row in pairwise(rows):
        if row.label == 0:
            assert (before.label, before.phenomenon) == (1, row.phenomenon)
            here, there = Counter(before.sentence.lower().split()), Counter(row.sentence.lower().split())
            assert ((here - there) + (there - here)).total() <= 8


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_minimal_pairs_returns_the_requested_number_of_rows(rows: int) -> None:
    assert len(acceptability.minimal_pairs("train", rows, Random(1))) == rows


def test_pretraining_needs_a_task_with_a_sample_corpus() -> None:
    message = r"training\.pretraining\.rows=5: .*task=rte\b.*cola and stsb.*training\.pretraining\.rows=0"
    with pytest.raises(UserError, match=message):
        check_pretraining("rte", 5)
    for task, rows in (("rte", 0), ("cola", 5), ("stsb", 5)):
        check_pretraining(task, rows)


def test_task_without_sample_corpus_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task=rte .*cola and stsb.*data=hub"):
        write_corpus(tmp_path, "rte", ROWS, 42)
    with pytest.raises(UserError, match="task=rte"):
        sample_corpus("rte", ROWS, 42)
    assert not list(tmp_path.iterdir())


def test_unknown_split_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.sample_rows\.test: .*train and dev"):
        write_corpus(tmp_path, "cola", {"train": 10, "test": 10}, 42)


def test_asking_for_more_rows_than_the_grammar_has_is_a_user_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptability, "MAX_REPEATS", 1)
    with pytest.raises(UserError, match=r"data\.sample_rows\.train=20000: train "):
        write_corpus(tmp_path, "cola", {"train": 20000}, 42)


@pytest.mark.parametrize("rows", [{"train": 3, "dev": 2}, {"train": 1, "dev": 1}, {"dev": 40}])
@pytest.mark.parametrize("task", FILES)
def test_small_corpora_have_the_requested_rows(task: str, rows: dict[str, int], tmp_path: Path) -> None:
    write_corpus(tmp_path, task, rows, 1)
    assert {path.stem: len(read(path)) for path in tmp_path.iterdir()} == rows


def test_cache_is_filled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILSPARK_CACHE", str(tmp_path))
    folder = sample_corpus("cola", {"train": 20, "dev": 10}, 3)
    assert folder.parent == tmp_path and {"cola", "train20", "dev10", "seed3"} <= set(folder.name.split("-"))
    written = (folder / "train.tsv").stat().st_mtime_ns
    assert sample_corpus("cola", {"train": 20, "dev": 10}, 3) == folder
    assert (folder / "train.tsv").stat().st_mtime_ns == written
    assert sample_corpus("cola", {"train": 20, "dev": 10}, 4) != folder
