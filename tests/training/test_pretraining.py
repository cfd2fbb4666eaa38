"""Pretraining on generated rows: it trains the network, and its checkpoint is cached, verified and shared."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import keras
import numpy as np
import pytest

from distilspark.config import TrainConfig
from distilspark.corpus import acceptability
from distilspark.corpus.acceptability import Phenomenon, judgements
from distilspark.features.encoding import encode, load_tokenizer
from distilspark.heads import CLASSIFICATION
from distilspark.model.checkpoints import RECORD, fetch, file_digest
from distilspark.model.conversion import WEIGHTS
from distilspark.model.network import export_arrays
from distilspark.paths import ROOT
from distilspark.training import pretraining
from distilspark.training.batches import Examples
from distilspark.training.checkpoint.state import weights_digest
from distilspark.training.loop import TrainingData, build_initial_network, fit
from distilspark.training.prediction import Predictor
from distilspark.training.pretraining import Pretrained, pretrain
from distilspark.training.targets import make_target_transform
from helpers.checkpoints import flip_a_byte
from helpers.texts import lines_with

pytestmark = pytest.mark.slow
Composer = Callable[..., TrainConfig]
EASY = {  # a doubled word, which a tiny network can learn
    "easy": Phenomenon(["the {person1.sg} {laugh1.past} [in|under under] the {place1.sg} (in {city1}|with {name1}|)"])
}
FIRST = tuple(f"training.pretraining.{change}" for change in ("rows=600", "learning_rate=5e-3", "batch_size=16"))


@pytest.fixture(scope="module", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Iterator[None]:
    """An easy grammar, few validation rows, and a cache for this module.

    `tiny_folder`, shared with other tests, is built first: its vocabulary is that of the whole grammar.
    """
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("DISTILSPARK_CACHE", str(tmp_path_factory.mktemp("cache")))
        changed.setattr(acceptability, "PHENOMENA", EASY)
        changed.setattr(acceptability, "IN_DOMAIN", EASY)
        changed.setattr(acceptability, "OUT_OF_DOMAIN", EASY)
        changed.setattr(pretraining, "VALIDATION_ROWS", 60)
        yield


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of each pretraining that has run."""
    rows: list[int] = []

    def counted(network: keras.Model, data: TrainingData, *rest: Any) -> Any:
        rows.append(len(data.train.labels))
        return fit(network, data, *rest)

    monkeypatch.setattr(pretraining, "fit", counted)
    return rows


def compose(compose_config: Composer, *overrides: str) -> TrainConfig:
    return compose_config("model=tiny", *FIRST, *overrides)


@pytest.fixture(scope="module")
def config(compose_config: Composer) -> TrainConfig:
    return compose(compose_config)


@pytest.fixture(scope="module")
def first(config: TrainConfig, surroundings: None) -> Pretrained:
    return pretrain(config, fetch(config.model))


def dev_mcc(network: keras.Model, folder: Path) -> float:
    """Return MCC on generated sentences with words that pretraining has not seen."""
    rows = judgements("dev", 300, Random(1))
    encoded = encode(load_tokenizer(folder), [row.sentence for row in rows], None, 64)
    outputs = CLASSIFICATION.activate(Predictor(network, 999, 8).raw_outputs(encoded))
    return CLASSIFICATION.compute_metrics(np.array([row.label for row in rows], float), outputs)["mcc"]


def test_network_classifies_unseen_words_after_pretraining(config: TrainConfig, first: Pretrained) -> None:
    base = fetch(config.model)
    untrained = build_initial_network(compose_without(config), base)
    assert dev_mcc(untrained, base) < 0.3
    assert dev_mcc(build_initial_network(config, first.folder), first.folder) > 0.9
    (epoch,) = first.history
    assert epoch["val/mcc"] > 0.9 and epoch["epoch"] == 1


def compose_without(config: TrainConfig) -> TrainConfig:
    return pretraining._pretraining_config(config)


@pytest.mark.parametrize("keep_head", [True, False])
def test_fine_tuning_starts_from_the_encoder_and_optionally_the_head(
    compose_config: Composer, first: Pretrained, keep_head: bool
) -> None:
    config = compose(compose_config, f"training.pretraining.keep_head={keep_head}")
    start = pretrain(config, fetch(config.model)).folder
    assert start == first.folder
    network = build_initial_network(config, start)
    new = export_arrays(build_initial_network(compose_without(config), fetch(config.model)))
    kept = {name for name, array in export_arrays(network).items() if not np.array_equal(array, new[name])}
    heads = {name for name in new if not name.startswith("distilbert.")}
    changed = {name for name in new if name.startswith("distilbert.")} - {
        "distilbert.embeddings.position_embeddings.weight"
    }
    assert changed <= kept
    assert (heads <= kept) == keep_head


def test_training_with_other_fine_tuning_settings_uses_the_cached_checkpoint(
    compose_config: Composer, first: Pretrained, trainings: list[int]
) -> None:
    other = ("training.seed=2", "training.learning_rate=1e-4", "training.epochs=3", "training.class_weights=off")
    levers = ("averaging=ema", "ema_decay=0.9", "layer_decay=0.9", "refit=true", "validate_every=0.5")
    config = compose(
        compose_config,
        *other,
        *(f"training.{lever}" for lever in levers),
        "features.text=filtered",
        "training.early_stopping.patience=1",
    )
    assert pretrain(config, fetch(config.model)) == first
    assert trainings == []


@pytest.mark.parametrize(
    "change",
    [
        "training.pretraining.rows=40",
        "training.pretraining.epochs=2",
        "training.pretraining.learning_rate=1e-3",
        "training.pretraining.batch_size=64",
        "training.weight_decay=0.1",
        "data.seed=43",
        "model.pooling=mean",
    ],
)
def test_changed_pretraining_setting_gives_another_checkpoint(
    compose_config: Composer, first: Pretrained, trainings: list[int], change: str
) -> None:
    config = compose(compose_config, "training.pretraining.rows=32", change)
    plain = compose(compose_config, "training.pretraining.rows=32")
    changed, unchanged = (pretrain(each, fetch(each.model)) for each in (config, plain))
    assert changed.folder != unchanged.folder and changed.digest != unchanged.digest
    assert file_digest(changed.folder / WEIGHTS) != file_digest(unchanged.folder / WEIGHTS)
    assert trainings[0] == config.training.pretraining.rows


@pytest.mark.parametrize("damage", ["flipped", "lost", "unrecorded"])
def test_damaged_cached_checkpoint_is_rebuilt_bit_identically(
    compose_config: Composer, trainings: list[int], damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = compose(compose_config, "training.pretraining.rows=48", "data.seed=7")
    kept = pretrain(config, fetch(config.model)).folder
    digest = file_digest(kept / WEIGHTS)
    trainings.clear()
    {
        "flipped": lambda: flip_a_byte(kept / WEIGHTS),
        "lost": (kept / WEIGHTS).unlink,
        "unrecorded": (kept / RECORD).unlink,
    }[damage]()
    assert pretrain(config, fetch(config.model)).folder == kept
    assert trainings == [48]
    assert lines_with(capsys.readouterr().out, str(kept), "damaged")
    assert file_digest(kept / WEIGHTS) == digest == json.loads((kept / RECORD).read_text())["sha256"]


def test_fine_tuning_is_the_same_with_and_without_a_cached_pretraining(
    compose_config: Composer, toy_rows: Callable[..., Any], tiny_folder: Path
) -> None:
    settings = ("training.pretraining.rows=56", "training.epochs=1", f"model.path={tiny_folder}")
    config = compose(compose_config, *settings)
    examples = Examples(*toy_rows(64))
    data = TrainingData(examples, examples, make_target_transform(examples.labels, config.task, config.training))
    digests = []
    for _ in range(2):
        network = build_initial_network(config, pretrain(config, fetch(config.model)).folder)
        fit(network, data, config, lambda epoch, metrics: None)
        digests.append(weights_digest(network))
    assert digests[0] == digests[1]


def test_regression_task_can_be_pretrained(compose_config: Composer) -> None:
    config = compose(compose_config, "task=stsb", "training.pretraining.rows=64")
    first = pretrain(config, fetch(config.model))
    assert "val/pearson" in first.history[0]
    network = build_initial_network(config, first.folder)
    assert network.output_shape == (None, 1)


COUNTED = """
import sys
from pathlib import Path
from hydra import compose, initialize_config_dir
from distilspark.config import TrainConfig, from_hydra
from distilspark.model.checkpoints import fetch
from distilspark.training import pretraining

build, log = pretraining._build, Path(sys.argv[1])

def counted(*arguments):
    with log.open("a") as file:
        file.write("built\\n")
    build(*arguments)

pretraining._build = counted
with initialize_config_dir(sys.argv[2], version_base="1.3"):
    config = from_hydra(TrainConfig, compose("train", sys.argv[3:]))
checkpoint = fetch(config.model)
print("ready", flush=True)
sys.stdin.readline()
print(pretraining.pretrain(config, checkpoint).folder, flush=True)
"""


def test_two_processes_run_one_pretraining(tmp_path: Path) -> None:
    overrides = ["model=tiny", "training.pretraining.rows=64", "data.seed=3"]
    command = [sys.executable, "-c", COUNTED, str(tmp_path / "log"), str(ROOT / "conf"), *overrides]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    folders = [process.communicate(timeout=200)[0].splitlines()[-1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert folders[0] == folders[1]
    assert (tmp_path / "log").read_text() == "built\n"
