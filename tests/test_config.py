"""Every YAML under conf/ composes and converts, every key is read, and invalid values are refused."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hydra import compose, initialize_config_dir

import distilspark.config
from distilspark.cli import hydra_arguments
from distilspark.config import (
    CompareConfig,
    EvaluateConfig,
    PredictConfig,
    PromoteConfig,
    SearchConfig,
    ServerConfig,
    SparkConfig,
    TrainConfig,
    flatten,
    from_hydra,
)
from distilspark.corpus.sample import CORPORA
from distilspark.errors import UserError
from distilspark.paths import CONF, ROOT

Composer = Callable[..., TrainConfig]
BOTH = {"classification", "regression"}
ABLATIONS = {  # the heads that each ablation applies to
    "averaging": BOTH,
    "class_weights": {"classification"},
    "distil": BOTH,
    "early_stopping": BOTH,
    "layer_decay": BOTH,
    "learning_rate": BOTH,
    "loss": {"regression"},
    "pooling": BOTH,
    "pretraining": BOTH,
    "precision": BOTH,
    "refit": BOTH,
    "reinitialize_layers": BOTH,
    "sample_fraction": BOTH,
    "stop_words": BOTH,
    "validate_every": BOTH,
}
EXPECTED = {
    "task": {"cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli"},
    "model": {"auto", "distilbert", "grammar", "minilm", "tiny"},
    "data": {"auto", "files", "hub", "sample"},
    "training": {"default"},
    "evaluation": {"default"},
    "gate": {"default"},
    "registry": {"default"},
    "spark": {"kubernetes", "local", "standalone", "yarn"},
    "experiment": {"paper", "pareto", "search", *ABLATIONS},
    "hydra/launcher": {"spark"},
    "hydra/sweeper": {"grid", "optuna"},
}
GROUPS = sorted({file.parent.relative_to(CONF).as_posix() for file in CONF.rglob("*.yaml")} - {"."})
MODEL_AUTO = ("model", "auto")
PATH = "data.path=/nowhere"  # required by data=files


def choices(group: str) -> list[str]:
    """Return the files of a group, without parts of others, whose names begin with an underscore."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml") if not file.stem.startswith("_"))


def test_conf_has_the_expected_groups_and_only_yaml_files() -> None:
    assert set(GROUPS) >= set(EXPECTED)
    for group, known in EXPECTED.items():
        assert set(choices(group)) >= known
    assert not [file for file in CONF.rglob("*") if file.is_file() and file.suffix != ".yaml"]


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_composes_for_every_task(compose_config: Composer, group: str) -> None:
    # model=auto is a placeholder: `workflows.composition` replaces it with another file
    pairs = [(task, choice) for task in choices("task") for choice in choices(group) if (group, choice) != MODEL_AUTO]
    composed = 0
    for task, choice in pairs:
        wanted = {"model": "minilm", "task": task} | {group: task if group == "task" else choice}
        config = compose_config(PATH, *(f"{key}={value}" for key, value in wanted.items()))
        assert (config.task.name, config.registry.name) == (task, f"distilspark-{task}")
        assert config.task.metric in config.task.head_kind.metrics
        assert group != "model" or config.model.name == choice
        assert group != "data" or config.data.source == choice
        composed += 1
    assert composed >= len(EXPECTED["task"]) * (len(EXPECTED.get(group, [group])) - (group == "model"))


def test_experiments_change_only_known_keys(compose_config: Composer) -> None:
    plain = flatten(compose_config("model=minilm"))
    for experiment in choices("experiment"):
        changed = flatten(compose_config("model=minilm", f"experiment={experiment}"))
        assert changed != plain or varied(experiment), experiment
        assert changed.keys() == plain.keys(), experiment


@cache
def varied(experiment: str) -> dict[str, str]:
    """Return the sweeper's params of an experiment."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", [f"experiment={experiment}"], return_hydra_config=True)
    return dict(composed.hydra.sweeper.params)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", sorted(ABLATIONS))
def test_ablation_varies_one_key_over_several_seeds_for_its_heads(compose_config: Composer, experiment: str) -> None:
    seeds, (key, values) = varied(experiment).items()
    assert seeds[0] == "training.seed" and len(seeds[1].split(",")) >= 3
    composed = 0
    for task in choices("task"):
        head = compose_config(f"task={task}", "model=minilm").task.head
        chosen = ["model=minilm", f"task={task}", f"experiment={experiment}"]
        jobs = [[*chosen, f"{key}={value}"] for value in values.split(",")]
        if head in ABLATIONS[experiment]:
            assert len({str(flatten(compose_config(*job))[key]) for job in jobs}) == len(jobs) >= 2
        else:
            with pytest.raises(UserError, match=f"^{key}=.* task={task}"):
                [compose_config(*job) for job in jobs]
        composed += 1
    assert composed == len(choices("task"))


def test_experiment_file_begins_with_its_command() -> None:
    for experiment in choices("experiment"):
        package, command, purpose, *_ = (CONF / "experiment" / f"{experiment}.yaml").read_text().splitlines()
        assert package == "# @package _global_"
        assert re.match(r"# python -m distilspark train ", command) and purpose.startswith("# ")
        words = command.split()
        assert f"experiment={experiment}" in words
        assert ("--multirun" in words) == bool(varied(experiment))
        assert ("hydra/sweeper=optuna" in words) == ("interval(" in str(varied(experiment)))


def test_tasks_have_the_settings_that_their_heads_need(compose_config: Composer) -> None:
    for name in choices("task"):
        task = compose_config(f"task={name}", "model=tiny").task
        assert (len(task.labels) >= 2) == (task.head == "classification"), name
        assert (len(task.label_range) == 2) == (task.head == "regression"), name
        assert set(task.splits) == set(task.hub) == {"train", "dev"}, name
        assert {"sentence1", "label"} <= set(task.columns), name
        for header in task.headerless:
            assert {"sentence1", "label"} <= set(header) <= {*task.columns, "source", "-"}, name
    assert set(CORPORA) <= set(choices("task"))


def test_default_hyperparameters_are_those_of_the_design(compose_config: Composer) -> None:
    for task, rate, batch, weights in (("cola", 2e-5, 8, "balanced"), ("stsb", 1e-5, 4, "off")):
        config = compose_config("model=distilbert", f"task={task}")
        training = config.training
        assert (training.learning_rate, training.batch_size, training.epochs) == (rate, batch, 3)
        assert (training.class_weights, config.model.max_length) == (weights, 64)
        assert (config.data.sample_fraction, config.data.validation_fraction) == (1.0, 0.2)


def test_recipe_sets_the_pretraining_rows_of_a_task(compose_config: Composer) -> None:
    recipe = "+model.recipe.classification.pretraining_rows.cola=2000"
    for task, rows in (("cola", 2000), ("sst2", 0), ("stsb", 0)):
        assert compose_config("model=tiny", f"task={task}", recipe).training.pretraining.rows == rows
    assert compose_config("model=tiny", recipe, "training.pretraining.rows=0").training.pretraining.rows == 0
    assert compose_config("model=tiny", "training.learning_rate=0.1").training.pretraining.learning_rate == 1e-3


def keys(schema: Any) -> Iterator[str]:
    """Yield the field names of a config and of its nested configs."""
    for field in fields(schema):
        yield field.name
        yield from (name for part in configs_in(get_type_hints(schema)[field.name]) for name in keys(part))


def configs_in(hint: Any) -> Iterator[Any]:
    if is_dataclass(hint):
        yield hint
    for part in get_args(hint):
        yield from configs_in(part)


def attributes_read() -> set[str]:
    """Return all attribute names that are read anywhere in src."""
    read: set[str] = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                read.add(node.attr)
    return read


def test_every_key_is_read_somewhere() -> None:
    commands = (TrainConfig, EvaluateConfig, PromoteConfig, PredictConfig, CompareConfig, ServerConfig)
    names = [key for composed in (*commands, SearchConfig) for key in keys(composed)]
    assert len(names) > 90
    # conf/training/default.yaml interpolates these
    for_interpolation = {"recipe", "RecipeConfig", "pretraining_rows", "pretraining_learning_rate"}
    assert "model.recipe." in (CONF / "training" / "default.yaml").read_text()
    assert set(names) - attributes_read() - for_interpolation == set()


def test_configs_are_frozen_everywhere(compose_config: Composer) -> None:
    config = compose_config("model=tiny")
    for part in (config, *(getattr(config, field.name) for field in fields(config))):
        with pytest.raises(FrozenInstanceError):
            setattr(part, fields(part)[0].name, None)
    schemas = [value for value in vars(distilspark.config).values() if isinstance(value, type) and is_dataclass(value)]
    assert len(schemas) >= 12
    assert all(schema.__dataclass_params__.frozen for schema in schemas)


@pytest.mark.parametrize(
    "override, named",
    [
        ("+training.learning_rat=1e-3", "training.learning_rat"),
        ("+model.checkpoint.url=x", "model.checkpoint.url"),
        ("+training.early_stopping.mode=max", "training.early_stopping.mode"),
        ("+nothing=1", "nothing"),
        ("training.epochs=0", "training.epochs"),
        ("training.epochs=2.5", "training.epochs"),
        ("training.epochs=true", "training.epochs"),
        ("training.epochs=many", "training.epochs"),
        ("training.batch_size=0", "training.batch_size"),
        ("training.learning_rate=0", "training.learning_rate"),
        ("training.learning_rate=1", "training.learning_rate"),
        ("training.learning_rate=nan", "training.learning_rate"),
        ("training.weight_decay=-0.1", "training.weight_decay"),
        ("training.weight_decay=inf", "training.weight_decay"),
        ("training.warmup_fraction=1.1", "training.warmup_fraction"),
        ("training.clip_norm=-1", "training.clip_norm"),
        ("training.optimizer=sgd", "training.optimizer"),
        ("training.schedule=cosine", "training.schedule"),
        ("training.class_weights=on", "training.class_weights"),
        ("training.early_stopping.monitor=val_loss", "training.early_stopping.monitor"),
        ("training.early_stopping.patience=-1", "training.early_stopping.patience"),
        ("training.pretraining.rows=-1", "training.pretraining.rows"),
        ("training.pretraining.rows=100001", "training.pretraining.rows"),
        ("training.pretraining.rows=true", "training.pretraining.rows"),
        ("training.pretraining.epochs=0", "training.pretraining.epochs"),
        ("training.pretraining.learning_rate=0", "training.pretraining.learning_rate"),
        ("training.pretraining.batch_size=0", "training.pretraining.batch_size"),
        ("training.pretraining.keep_head=perhaps", "training.pretraining.keep_head"),
        ("training.seed=-1", "training.seed"),
        ("training.seed=4294967296", "training.seed"),
        ("training.checkpoint_every=often", "training.checkpoint_every"),
        ("training.checkpoint_every=0 steps", "training.checkpoint_every"),
        ("training.resume=perhaps", "training.resume"),
        ("training.workers=0", "training.workers"),
        ("training.workers=33", "training.batch_size=32 is less than training.workers=33"),
        ("training.loss=mse", "training.loss"),
        ("training.threshold=0", "training.threshold"),
        ("training.threshold=1", "training.threshold"),
        ("training.threshold=best", "training.threshold"),
        ("training.early_stopping=3", "training.early_stopping"),
        ("training.averaging=swa", "training.averaging"),
        ("training.ema_decay=1", "training.ema_decay"),
        ("training.layer_decay=0", "training.layer_decay"),
        ("training.layer_decay=1.1", "training.layer_decay"),
        ("training.refit=perhaps", "training.refit"),
        ("training.validate_every=0", "training.validate_every"),
        ("training.validate_every=1.5", "training.validate_every"),
        ("data.sample_fraction=0", "data.sample_fraction"),
        ("data.sample_fraction=1.01", "data.sample_fraction"),
        ("data.validation_fraction=0", "data.validation_fraction"),
        ("data.validation_fraction=1", "data.validation_fraction"),
        ("data.max_bad_fraction=-0.1", "data.max_bad_fraction"),
        ("data.sample_rows.train=0", "data.sample_rows.train"),
        ("data=files", "data.path"),
        ("model.max_length=7", "model.max_length"),
        ("model.max_length=513", "model.max_length"),
        ("model.dropout=1", "model.dropout"),
        ("model.reinitialize_layers=-1", "model.reinitialize_layers"),
        ("model.pooling=sum", "model.pooling"),
        ("features.text=lower", "features.text"),
        ("evaluation.confidence=1", "evaluation.confidence"),
        ("evaluation.resamples=99", "evaluation.resamples"),
        ("scoring.precision=int4", "scoring.precision"),
        ("scoring.max_metric_drop=-0.01", "scoring.max_metric_drop"),
        ("scoring.max_flips=1.1", "scoring.max_flips"),
        ("spark.executor_cores=0", "spark.executor_cores"),
        ("registry.name=a/b", "registry.name"),
        ("registry.name=' '", "registry.name"),
        ("task.head=ranking", "training.epochs"),  # the missing recipe is found first
        ("training.epochs=${nowhere}", "training.epochs"),
    ],
)
def test_invalid_value_is_refused_with_its_key(compose_config: Composer, override: str, named: str) -> None:
    with pytest.raises(UserError) as refused:
        compose_config("model=tiny", override)
    assert str(refused.value).startswith(named)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "override",
    [
        "training.epochs=1",
        "training.weight_decay=0",
        "training.warmup_fraction=0",
        "training.warmup_fraction=1",
        "training.clip_norm=0",
        "training.early_stopping.patience=0",
        "training.pretraining.rows=0",
        "training.pretraining.rows=100000",
        "training.seed=0",
        "training.seed=4294967295",
        "training.checkpoint_every=1 steps",
        "data.sample_fraction=1",
        "data.max_bad_fraction=0",
        "data.max_bad_fraction=1",
        "model.max_length=8",
        "model.max_length=512",
        "model.dropout=0",
        "evaluation.resamples=100",
        "scoring.precision=int8",
        "scoring.max_metric_drop=0",
        "scoring.max_flips=1",
        "registry.name='our model'",
    ],
)
def test_values_at_their_limits_are_accepted(compose_config: Composer, override: str) -> None:
    key, _, value = override.partition("=")
    assert str(flatten(compose_config("model=tiny", override))[key]).removesuffix(".0") == value.strip("'")


def test_workers_refuse_a_refit(compose_config: Composer) -> None:
    with pytest.raises(UserError, match=r"^training\.refit=true .*workers=2: .*refit=false$"):
        compose_config("model=tiny", "training.refit=true", "training.workers=2")


def test_loss_must_fit_the_head(compose_config: Composer) -> None:
    for loss in ("mse", "huber"):
        assert compose_config("task=stsb", "model=tiny", f"training.loss={loss}").training.loss == loss
    with pytest.raises(UserError, match=r"training\.loss=cross_entropy .*task=stsb"):
        compose_config("task=stsb", "model=tiny", "training.loss=cross_entropy")


@pytest.mark.parametrize(
    "override, named", [("task.head=ordinal", "classification, regression"), ("task.metric=mse", "accuracy, precision")]
)
def test_unknown_head_or_metric_is_refused(override: str, named: str) -> None:
    with (
        initialize_config_dir(str(CONF), version_base="1.3"),
        pytest.raises(UserError, match=f"^{override} .*{named}"),
    ):
        from_hydra(EvaluateConfig, compose("evaluate", [override]))


def test_class_weights_are_refused_for_regression(compose_config: Composer) -> None:
    with pytest.raises(UserError, match=r"training\.class_weights=balanced .*task=stsb"):
        compose_config("task=stsb", "model=tiny", "training.class_weights=balanced")


@pytest.mark.parametrize("task", ["stsb", "mnli"])
@pytest.mark.parametrize("threshold", ["tuned", "0.3"])
def test_threshold_is_refused_unless_the_task_has_two_labels(
    compose_config: Composer, task: str, threshold: str
) -> None:
    assert compose_config("task=cola", "model=tiny", f"training.threshold={threshold}").training.threshold != 0.5
    with pytest.raises(UserError, match=rf"training\.threshold={threshold} .*task={task}: .*\b0\.5"):
        compose_config(f"task={task}", "model=tiny", f"training.threshold={threshold}")


@pytest.mark.parametrize(
    "overrides, named",
    [
        ([], "sweep=ID, runs=[ID,ID] and models=[URI,URI]"),
        (["sweep=a", "runs=[b,c]"], ": sweep, runs"),
        (["runs=[b]"], "runs "),
        (["models=[models:/a/1]"], "models "),
        (["sweep=a", "evaluation.resamples=99"], "evaluation.resamples=99"),
        (["sweep=a", "evaluation.confidence=1"], "evaluation.confidence=1"),
        (["sweep=a", "evaluation.examples=0"], "evaluation.examples=0"),
        (["sweep=a", "+evaluation.example=1"], "evaluation.example"),
    ],
)
def test_compare_needs_one_source_with_two_entries(overrides: list[str], named: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"), pytest.raises(UserError) as refused:
        from_hydra(CompareConfig, compose("compare", overrides))
    assert named in str(refused.value) and "\n" not in str(refused.value)


def test_model_uris_for_compare_are_parsed_unchanged() -> None:
    uris = "models=[models:/distilspark-cola/1,models:/distilspark-cola@champion]"
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = from_hydra(CompareConfig, compose("compare", hydra_arguments([uris])))
    assert config.models == ["models:/distilspark-cola/1", "models:/distilspark-cola@champion"]


def test_flatten_returns_every_leaf_with_its_dotted_key(compose_config: Composer) -> None:
    leaves = flatten(compose_config("model=tiny", "+spark.settings={spark.log.level: ERROR}"))
    assert leaves["training.early_stopping.patience"] == 2
    assert leaves["spark.settings.spark.log.level"] == "ERROR"
    assert leaves["task.labels"] == ["unacceptable", "acceptable"]
    assert leaves["model.recipe.classification.batch_size"] == 32
    assert not any(is_dataclass(value) or isinstance(value, dict) for value in leaves.values())
    assert {field.name for field in fields(SparkConfig)} <= {key.split(".")[1] for key in leaves if key[:5] == "spark"}


def test_project_root_is_the_parent_of_the_tests() -> None:
    assert Path(__file__).parents[1] == ROOT
