"""The model card: a model's origin, data, metrics, limits, use and cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
from mlflow.entities import Run

from distilspark.config import DistillationConfig, PretrainingConfig, TaskConfig, TrainConfig
from distilspark.figures import percent
from distilspark.markdown import write_list, write_table
from distilspark.metrics import Metric
from distilspark.tracking.results import metric_table
from distilspark.tracking.runs import logged_model

if TYPE_CHECKING:  # scikit-learn takes a second to import
    from distilspark.evaluation.report import Evaluation

CARD = "model_card.md"  # among a run's artifacts
TEACHER = "model.teacher"  # a tag of runs and versions
MAX_CARD_LENGTH = 5000  # characters: MLflow's limit for a version's description
WORST_SOURCES, FEWEST_ROWS = 5, 20  # sources shown of possibly dozens; rows that a metric needs
SAMPLE_LICENSE = "the project's own, MIT: its grammar generates the sentences"
UNKNOWN = "unknown: the weights are the caller's own"
GATE_HEADING = "\n## Gate\n\n"
LIMITS = {
    "sample": "It was trained and evaluated on generated sentences: its figures say nothing about human text.",
    "files": "It was trained on files of the caller's: read its figures as those of their kind of text.",
    "hub": "It was trained on GLUE's sentences, English of its sources: expect less of any other text.",
}


def model_card(config: TrainConfig, evaluation: Evaluation, run: Run) -> str:
    """Write the card in markdown, at most `MAX_CARD_LENGTH` characters.

    Args:
        config: the training's.
        evaluation: of the model on dev.
        run: the training's; its tags and metrics have the facts about the data and the costs.

    """
    parts = [
        _headline(config, evaluation),
        _section("Model", write_list(_model_facts(config, run))),
        _section("Data", f"{_data_table(run)}\n{write_list(_data_facts(config.task, run))}"),
        _section("Metrics on dev", metric_table(evaluation)),
        _section("Slices of dev", _slice_table(evaluation.slices, config.task.headline)),
        _section("Limits", "".join(f"- {limit}\n" for limit in _limits(config, run))),
        _section("Use", _usage(config.task, logged_model(run))),
        _section("Cost", write_list(_costs(run))),
    ]
    return "\n".join(parts)[:MAX_CARD_LENGTH]


def with_verdict(card: str, verdict: str) -> str:
    """Replace the gate's verdict in a version's description, or append it."""
    section = f"{GATE_HEADING}{verdict}\n"
    return card.partition(GATE_HEADING)[0][: MAX_CARD_LENGTH - len(section)] + section


def _headline(config: TrainConfig, evaluation: Evaluation) -> str:
    metric = config.task.metric
    low, high = evaluation.intervals[metric]
    interval = f"{percent(config.evaluation.confidence)} interval {low:.4f} to {high:.4f}"
    return (
        f"# {config.task.title}\n\n**dev {metric} {evaluation.metrics[metric]:.4f}** ({interval}); "
        f"without any skill: {evaluation.baseline[metric]:.4f}.\n"
    )


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def _model_facts(config: TrainConfig, run: Run) -> dict[str, str]:
    model, checkpoint = config.model, config.model.checkpoint
    on_the_hub = f"{checkpoint.repository} @ {checkpoint.revision}" if checkpoint.repository else None
    source = model.path or on_the_hub or checkpoint.wheel or "made here"
    is_known = checkpoint.sha256 or not model.path
    answers = ", ".join(f"{place} {name}" for place, name in enumerate(config.task.labels))
    threshold = run.data.metrics.get("train/threshold")
    again = ", then once more from the beginning, on train and validation" if config.training.refit else ""
    return {
        "checkpoint": f"{model.name} ({source}), licence {checkpoint.license if is_known else UNKNOWN}",
        "origin": checkpoint.origin if is_known else UNKNOWN,
        **({"layers": f"{_names(model.layers)} of the checkpoint's, counted from 0"} if model.layers else {}),
        **({"not trained": _names(model.freeze)} if model.freeze else {}),
        **_pretraining_facts(config.training.pretraining),
        **_teacher(config.training.distillation, run),
        "reads": f"{' and '.join(config.task.text_columns)}, {config.features.text} text, {model.max_length} tokens",
        "answers": answers or "a value from {:g} to {:g}".format(*config.task.label_range),
        **({"decides above": f"{threshold:.4f}, folded into the network"} if threshold else {}),
        "precision": run.data.tags["model.precision"],
        "training": f"run {run.info.run_id}, seed {config.training.seed}{again}",
    }


def _names(parts: Sequence[object]) -> str:
    return ", ".join(map(str, parts))


def _pretraining_facts(config: PretrainingConfig) -> dict[str, str]:
    if not config.rows:
        return {}
    epochs = f"{config.epochs} epoch{'s' * (config.epochs > 1)}"
    return {"pretraining": f"{config.rows} rows that the project's own grammar generates, {epochs}"}


def _teacher(config: DistillationConfig, run: Run) -> dict[str, str]:
    if TEACHER not in run.data.tags:
        return {}
    how = f"temperature {config.temperature:g}, alpha {config.alpha:g}"
    return {"teacher": f"{run.data.tags[TEACHER]}, whose predictions it was trained on, too ({how})"}


def _data_table(run: Run) -> str:
    metrics, tags = run.data.metrics, run.data.tags
    splits = ("train", "validation", "dev")
    rows = [(split, f"{metrics[f'data/{split}']:.0f}", f"`{tags[f'data.digest.{split}']}`") for split in splits]
    return write_table(("split", "rows", "digest"), rows)


def _data_facts(task: TaskConfig, run: Run) -> dict[str, str]:
    metrics, source = run.data.metrics, run.data.tags["data.source"]
    licenses = {"sample": SAMPLE_LICENSE, "files": f"the files' own; {task.name} has: {task.license}"}
    return {
        "source": source,
        "licence": licenses.get(source, task.license),
        "bad rows left out": f"{metrics['data/rows_bad']:.0f}",
        "rows of dev that are also in train": f"{metrics['data/duplicates_train_dev']:.0f}",
    }


def _slice_table(slices: pd.DataFrame, metric: Metric) -> str:
    """Tabulate all slices except sources, of which only the worst are shown."""
    by_source = slices["slice"] == "source"
    sources = slices[by_source & (slices["rows"] >= FEWEST_ROWS)].sort_values(
        metric.name, ascending=metric.higher_is_better, kind="stable"
    )
    shown = pd.concat([slices[~by_source], sources.head(WORST_SOURCES)])
    rows = [
        (f"{name}: {value}", f"{count}", f"{score:.4f}")
        for name, value, count, score in shown[["slice", "value", "rows", metric.name]].itertuples(index=False)
    ]
    return write_table(("slice", "rows", metric.name), rows) + "\nAll of them: `evaluation/slices.json`.\n"


def _limits(config: TrainConfig, run: Run) -> list[str]:
    cut = run.data.metrics["data/cut_dev"] / run.data.metrics["data/dev"]
    return [
        LIMITS[run.data.tags["data.source"]],
        f"What is longer than {config.model.max_length} tokens is cut: {percent(cut, 1)} of dev.",
        "Epoch, precision and threshold were chosen on the validation split, a part of train; dev chose nothing.",
        "A difference between two models that lies within the intervals may be chance: `promote` tells.",
    ]


def _usage(task: TaskConfig, model_uri: str) -> str:
    columns = ", ".join(f'"{name}": [...]' for name in task.text_columns)
    return (
        "```python\n"
        f'mlflow.pyfunc.load_model("{model_uri}").predict(pandas.DataFrame({{{columns}}}))\n'
        "```\n\n"
        f"or `python -m distilspark predict task={task.name} model_uri={model_uri} input=FILE output=FOLDER`.\n"
    )


def _costs(run: Run) -> dict[str, str]:
    metrics = run.data.metrics
    whole = sum(value for name, value in metrics.items() if name.startswith("time/") and name != "time/epoch")
    return {
        "training": f"{metrics['time/train'] + metrics.get('time/refit', 0):.0f} s of {whole:.0f} s in all",
        "package": f"{metrics['package/bytes'] / 1e6:.1f} MB",
    }
