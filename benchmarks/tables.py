"""Markdown tables of the benchmarks' results, for the README and the documentation (`docs/generate/fill.py`)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from linearity import describe_growth, short_count

RESULTS = Path(os.environ.get("BENCHMARK_RESULTS") or Path(__file__).parent / "results")  # as in results_file.py
MARKED = re.compile(r"<!-- table: ([\w-]+) -->\n.*?<!-- /table -->", re.DOTALL)
TITLES = {"mcc": "MCC", "pearson": "Pearson", "spearman": "Spearman", "accuracy": "accuracy", "r2": "R²"}


class NotMeasuredError(Exception):
    """Raised if a results file is missing."""


def results(name: str) -> Any:
    """Read a benchmark's results file.

    Raises:
        NotMeasuredError: the file does not exist.

    """
    file = RESULTS / f"{name}.json"
    if not file.is_file():
        raise NotMeasuredError(f"Not measured yet: there is no `{file.name}`.")
    return json.loads(file.read_text(encoding="utf-8"))


def measured_on(name: str) -> str:
    """Describe the command, machine and load of a results file; return an empty text if the file is missing."""
    try:
        found = results(name)
    except NotMeasuredError:
        return ""
    machine = found["machine"]
    load = short(machine["load_before"], 2)
    return f"`{found['command']}` on {describe_machine(machine)}, load {load} before."


def describe_machine(machine: Mapping[str, Any]) -> str:
    """Write a machine's processor and cores."""
    return f"{machine['processor']}, {machine['cores']} cores"


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Write a markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ("---",) * len(columns), *rows))


def short(value: float, digits: int = 4) -> str:
    """Write a number below 1 without its zero, as papers do.

    >>> short(0.24191), short(-0.5, 2), short(1.2)
    ('.2419', '\N{MINUS SIGN}.50', '1.2000')
    """
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}").replace("0.", ".", 1 if abs(value) < 1 else 0)


def quality() -> str:
    """Write each task's dev scores over its seeds."""
    rows = []
    for task, headline, others in (("cola", "mcc", ("accuracy",)), ("stsb", "pearson", ("spearman", "r2"))):
        found = results(f"quality_{task}")
        rest = ", ".join(f"{TITLES[name]} {short(found['summary'][f'dev/{name}']['mean'])}" for name in others)
        score = f"{TITLES[headline]} {spread(found['summary'][f'dev/{headline}'])}"
        settings = found["runs"][0]["params"]
        model = f"`{settings['model.name']}`"
        if generated := int(settings.get("training.pretraining.rows", 0)):
            model += f", after {generated:,} generated rows"
        rows.append((f"`{task}`", model, score, rest, str(len(found["seeds"]))))
    return table(("task", "model", "mean ± standard deviation (lowest to highest)", "others", "seeds"), rows)


def sentences() -> str:
    """Write for each example sentence what it is, and how many seeds' CoLA models predict that."""
    models = [{each["sentence"]: each for each in run["sentences"]} for run in results("quality_cola")["runs"]]
    rows = []
    for sentence, first in models[0].items():
        right = sum(model[sentence]["predicted"] == first["acceptable"] for model in models)
        label = "acceptable" if first["acceptable"] else "unacceptable"
        rows.append((sentence, label, f"{right} of {len(models)} models"))
    return table(("sentence", "it is", "predicted so by"), rows)


def spread(summary: Mapping[str, float]) -> str:
    """Write the mean and spread over seeds."""
    mean, deviation, lowest, highest = (short(summary[key]) for key in ("mean", "sd", "lowest", "highest"))
    return f"{mean} ± {deviation} ({lowest} to {highest})"


def scoring_speed() -> str:
    """Write the rows a second of `predict`, and its speedup over other ways to score in Spark."""
    found = results("scoring")
    rows = []
    for precision in ("int8", "float32"):
        times = found["times_as_fast"][precision]
        rates = (times["keras_padded"], times["pytorch_pipeline"], times[f"one_process_{precision}"])
        speed = found["measurements"][f"distilspark_{precision}"]["rows_a_second"]
        rows.append((f"`{precision}`", f"{speed:.0f}", *(f"{rate:.2f} times" for rate in rates)))
    rivals = ("Keras, padded", "PyTorch pipeline", "one process")
    return table(("package", "rows a second", *(f"against {rival}" for rival in rivals)), rows)


def scoring_memory() -> str:
    """Write the largest memory of a scoring worker."""
    found = results("scoring")["measurements"]
    memory, cluster = found["memory"], found["standalone"]
    rows = [
        ("largest memory of a worker", f"{max(memory['peak_mib_in_each_chunk'])} MiB over {memory['rows']:,} rows"),
        ("two workers of one core against `local[1]`", f"{cluster['speed_up']['scoring_seconds']:.2f} times as fast"),
    ]
    return table(("measured", "result"), rows)


def training_speed() -> str:
    """Write the seconds of an epoch with bucketed and with padded batches."""
    epoch = results("training")["epoch"]
    rows = [
        (name.replace("_", " "), ", ".join(f"{each:.1f}" for each in times)) for name, times in epoch["seconds"].items()
    ]
    rows.append(("padded over bucketed", f"{epoch['padded_over_bucketed']:.2f} times"))
    return table(("batches", f"seconds of an epoch of {epoch['rows']:,} rows, measured twice"), rows)


def training_memory() -> str:
    """Write the memory of a training after each of ten epochs."""
    after = results("training")["memory"]["mib_after_epoch"]
    return table(tuple(f"epoch {number}" for number in range(1, len(after) + 1)), [tuple(f"{mib}" for mib in after)])


WAYS = {"ours": "distilspark", "trainer": "Trainer", "padded": "Keras, padded to 64"}


def training_rivals() -> str:
    """Write the medians of each way to train, and our speedup over the others."""
    rows = []
    for case, found in results("training_speed")["results"].items():
        for way, measured in found["measured"].items():
            name, _, precision = way.partition("_")
            names = ("rows_per_second", "cpu_ms_per_step", "peak_mib")
            figures = (f"{median(each[figure] for each in measured):.0f}" for figure in names)
            times = found["ours_times_as_fast"].get(way)
            ours = "" if times is None else f"{times:.2f} times"
            rows.append((case, f"{WAYS[name]}, {precision}", *figures, ours))
    columns = ("rows a second", "CPU ms a step", "peak memory, MiB", "distilspark against it")
    return table(("model and task", "way", *columns), rows)


def runtimes() -> str:
    """Write the rows a second of each runtime by the tokens of a call, and the labels that it changes."""
    found = results("runtimes")["results"]
    sizes = list(next(iter(next(iter(found.values())).values()))["rows_a_second"])
    rows = [
        (
            model,
            way.replace("_", ", "),
            *(f"{speed:.0f}" for speed in each["rows_a_second"].values()),
            f"{each['flips']:.2%}".replace("%", " %"),
        )
        for model, ways in found.items()
        for way, each in ways.items()
    ]
    columns = (f"{int(size):,} tokens" for size in sizes)
    return table(("model", "runtime", *columns, "labels changed"), rows)


def growth() -> str:
    """Show the plots; for each, state where the cost stops growing linearly, and its first and last cost."""
    panels, rows = results("growth")["panels"], []
    for name, panel in panels.items():
        ends = panel["points"][0], panel["points"][-1]
        sizes = " to ".join(short_count(end["size"]) for end in ends)
        figures = (
            " to ".join(f"{end[figure]:.{digits}f}" for end in ends)
            for figure, digits in (("seconds", 1), ("command_seconds", 1), ("peak_mib", 0))
        )
        rows.append((name, sizes, panel["fixed"], *figures))
    lines = [
        f"- **{name.capitalize()}**: {describe_growth(panel['points'], panel['shared'])}"
        for name, panel in panels.items()
    ]
    columns = ("what grows", "sizes", "fixed", "seconds of the job", "of the command", "peak memory, MiB")
    picture = "![Seconds by size, on logarithmic axes](images/growth.svg)"
    return "\n".join([picture, "", *lines, "", table(columns, rows)])


def soak() -> str:
    """Write how many kills each kind of job had, and what was lost."""
    counts = {
        "jobs": "jobs",
        "kills": "kills",
        "rows_lost": "rows lost",
        "rows_doubled": "rows doubled",
        "weights_changed": "weights changed",
        "finished_runs_more_than_one": "runs too many",
        "runs_left_running": "runs left open",
        "files_left": "files left",
    }
    rows = [
        (kind, *(f"{tally[name]:,}" if name in tally else "" for name in counts))
        for kind, tally in results("soak")["jobs"].items()
    ]
    return table(("kind", *counts.values()), rows)


def cluster_steps() -> str:
    """Write the seconds of a training step with one worker and with two."""
    found = results("cluster_training")
    checks = found["on_paper"]["checks"]
    labels = {
        "one_worker": "one worker, 32 rows",
        "two_workers": "two workers, 32 rows together",
        "two_workers_twice_the_batch": "two workers, 64 rows together",
    }
    rows = [
        (
            label,
            short(found["measured"][name]["step"], 2),
            f"{checks[name]['collective_share']:.0%}".replace("%", " %") if name in checks else "",
        )
        for name, label in labels.items()
    ]
    return table(("workers and batch", "seconds a step", "of them in the collective"), rows)


def cluster_scaling() -> str:
    """Write the speed of more workers, as modelled in `benchmarks/cluster_training.py`."""
    rows = [
        (network, str(each["workers"]), f"{each['same_batch_speedup']:.2f}", f"{each['batch_grows_speedup']:.2f}")
        for network, points in results("cluster_training")["on_paper"]["scaling"].items()
        for each in points
    ]
    return table(("network", "workers", "32 rows together: times as fast", "32 rows each: times as fast"), rows)


def cluster_fit() -> str:
    """State the data moved in a step, and the model's deviation from the measurements."""
    found = results("cluster_training")
    paper, checks = found["on_paper"], found["on_paper"]["checks"].values()
    gradient = found["measured"]["one_worker"]["gradient_mb"]
    worst = max(abs(1 - each["ratio"]) for each in checks)
    return (
        f"Each step moves a gradient of {gradient:.0f} MB. On one machine, the collective moves "
        f"{paper['collective_gb_a_second']:.2f} GB a second. At the two measured points, the model's times are within "
        f"{worst:.0%} of the measured ones."
    )


def cluster_quality() -> str:
    """Write the STS-B scores of one worker and of two."""
    names = {"stsb": "one worker", "stsb_two_workers": "two workers"}
    return table(
        ("STS-B", "Pearson on dev, over three seeds"),
        [(label, spread(results(f"quality_{name}")["summary"]["dev/pearson"])) for name, label in names.items()],
    )


def class_weights() -> str:
    """Write the ablation of class weights on CoLA."""
    rows = []
    for found in results("ablation_cola_class_weights")["differences"]:
        difference = ""
        if found["pairs"]:
            low, high = short(found["difference_low"]), short(found["difference_high"])
            difference = f"{short(found['difference'])} ({low} to {high}), p = {short(found['p'], 3)}"
        interval = f"{short(found['low'])} to {short(found['high'])}"
        rows.append((f"`{found['variant']}`", short(found["mcc"]), interval, difference))
    return table(("`training.class_weights`", "MCC, mean of three seeds", "95 % interval", "difference"), rows)


def resumed() -> str:
    """Write whether a training that was killed and resumed ends with the weights of an uninterrupted one."""
    names = {
        "distilspark": "distilspark",
        "trainer_random": "Trainer, random batches",
        "trainer_group_by_length": "Trainer, `group_by_length`",
    }
    figures = results("trainer_resume")["figures"]
    rows = [
        (label, *(_equality(figures[name][f"killed_in_epoch_{epoch}"]) for epoch in (1, 2)))
        for name, label in names.items()
    ]
    return table(("training", "killed in epoch 1", "killed in epoch 2"), rows)


def _equality(found: Mapping[str, Any]) -> str:
    return "bit-identical" if found["bit_equal"] else f"different, by up to {short(found['largest_difference'], 3)}"


def sources() -> str:
    """Write the command and machine of each results file."""
    rows = []
    for file in sorted(RESULTS.glob("*.json")):
        found = results(file.stem)
        rows.append((f"`{file.name}`", f"`{found['command']}`", describe_machine(found["machine"])))
    return table(("file in `benchmarks/results/`", "command", "machine"), rows)


MEASURED = (
    *("scoring", "runtimes", "growth", "training", "training_speed", "cluster_training"),
    *("trainer_resume", "soak", "ablation_cola_class_weights"),
)
TABLES: Mapping[str, Callable[[], str]] = {
    "quality": quality,
    "sentences": sentences,
    "scoring-speed": scoring_speed,
    "scoring-memory": scoring_memory,
    "training-speed": training_speed,
    "training-memory": training_memory,
    "cluster-steps": cluster_steps,
    "cluster-scaling": cluster_scaling,
    "cluster-fit": cluster_fit,
    "cluster-quality": cluster_quality,
    "class-weights": class_weights,
    "resumed": resumed,
    "training-rivals": training_rivals,
    "runtimes": runtimes,
    "growth": growth,
    "soak": soak,
    "sources": sources,
    **{f"measured-{name.replace('_', '-')}": partial(measured_on, name) for name in MEASURED},
}


def fill(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """Replace the text between each table's markers with the table, or a sentence if its results file is missing.

    Raises:
        KeyError: a marker names no table.

    """
    return MARKED.sub(lambda found: f"<!-- table: {found[1]} -->\n{_write(tables[found[1]])}\n<!-- /table -->", text)


def _write(write: Callable[[], str]) -> str:
    try:
        return write()
    except NotMeasuredError as missing:
        return str(missing)
