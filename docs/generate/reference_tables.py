"""Tables of the reference that follow from the code: commands, metrics, experiments and answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from config_reference import first_comment
from distilspark.cli import COMMANDS
from distilspark.heads import HEADS
from distilspark.metrics import METRICS
from distilspark.paths import CONF


def commands() -> str:
    """Write what each command is for."""
    return "\n".join(
        ["| command | purpose |", "| --- | --- |", *(f"| `{name}` | {text} |" for name, text in COMMANDS.items())]
    )


def metrics() -> str:
    """Write each metric with its direction and the heads that have it."""
    lines = ["| metric | name | head | better |", "| --- | --- | --- | --- |"]
    for metric in METRICS.values():
        heads = ", ".join(name for name, head in HEADS.items() if metric.name in head.metrics)
        lines.append(
            f"| `{metric.name}` | {metric.title} | {heads} | {'higher' if metric.higher_is_better else 'lower'} |"
        )
    return "\n".join(lines)


def experiments() -> str:
    """Write the question of each file in `conf/experiment/`."""
    files = sorted((CONF / "experiment").glob("*.yaml"))
    return "\n".join(
        [
            "| `experiment=` | question |",
            "| --- | --- |",
            *(f"| `{file.stem}` | {first_comment(file)} |" for file in files),
        ]
    )


def answers() -> str:
    """Write the columns that a model answers with, for each head."""
    lines = ["| head | column | type | in a row with an error |", "| --- | --- | --- | --- |"]
    for name, head in HEADS.items():
        lines += [f"| {name} | `{each.name}` | {each.type} | {_missing(each.missing)} |" for each in head.answers]
    return "\n".join(lines)


def _missing(value: object) -> str:
    return "empty" if value == "" else "NaN" if value != value else f"{value}"


TABLES: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "metrics": metrics,
    "experiments": experiments,
    "answers": answers,
}
