"""The documentation agrees with the code: commands, messages, paths, config keys and tables."""

from __future__ import annotations

import ast
import doctest
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import open_dict

import config_reference
import decisions
import fill
import linearity
import pictures
import record
import tables
from distilspark import __version__
from distilspark.cli import COMMANDS, hydra_arguments
from distilspark.config import from_hydra
from distilspark.paths import CONF, ROOT

README = ROOT / "README.md"
PAGES = [*fill.PAGES, ROOT / "CONTRIBUTING.md"]
TARGETS = set(re.findall(r"^([a-z][a-z-]*):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
OWN_TASKS = ("tickets", "helpfulness")  # docs/learn/own-task.md has their files
# tags, artifacts and Spark's own settings, whose names begin like config keys
NOT_KEYS = (
    "scoring.json",
    "training.json",
    "predict.log",
    "gate.verdict",
    "gate.reason",
    "data.digest.",
    "spark.settings.",
    "spark.authenticate",
    "spark.network",
    "spark.executor.",
    "spark.stage.",
)
# commands of other programs, and the test that runs each
RUN_BY = {
    "mlflow models serve": "tests/package/test_serving.py",
    "curl http://127.0.0.1:5001/invocations": "tests/package/test_serving.py",
    "python docs/tutorials/make_tickets.py": "tests/test_docs.py",
    "openssl": "tests/tracking/test_signatures.py",
    ".venv/bin/python -m pytest tests/e2e/test_browser.py": "tests/e2e/test_browser.py",
    "export MLFLOW_TRACKING_": "tests/e2e/test_server.py",
    ". .venv/bin/activate": "the shell",
    "printf": "the shell",
    "cat scored/": "the shell",
}


def bash_lines() -> Iterator[str]:
    """Yield each distinct command in the pages' fenced bash blocks."""
    found: dict[str, None] = {}
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            lines = re.sub(r"\s*\\\n\s*", " ", block).splitlines()
            found |= dict.fromkeys(re.sub(r"(^|\s+)# .*", "", line).strip() for line in lines if line.strip())
    yield from filter(None, found)


def project_command(line: str) -> tuple[str, list[str]] | None:
    """Return the project's command behind a line, and its arguments; None for other programs and targets."""
    words = shlex.split(line)
    if words[0] == "make":
        target, given = words[1], dict(word.split("=", 1) for word in words[2:] if "=" in word)
        assert target in TARGETS, f"make {target}"
        if target not in {*COMMANDS, "ablate"} - {"server"}:
            return None
        task = [] if target == "compare" else [f"task={given.get('TASK', 'cola')}"]
        ablation = (
            [f"experiment={given.get('EXPERIMENT', 'class_weights')}", "--multirun"] if target == "ablate" else []
        )
        return target.replace("ablate", "train"), [*task, *ablation, *shlex.split(given.get("ARGS", ""))]
    if words[:2] == ["mlflow", "run"]:
        pairs = [words[place + 1] for place, word in enumerate(words) if word == "-P"]
        entry = words[words.index("-e") + 1] if "-e" in words else "train"
        ablation = ["--multirun"] if entry == "ablate" else []
        return entry.replace("ablate", "train"), [*(f"--{pair}" for pair in pairs), *ablation]
    if words[:3] == ["python", "-m", "distilspark"]:
        return words[3], words[4:]
    return None


LINES = list(bash_lines())
OWN = [line for line in LINES if project_command(line)]


@pytest.fixture(scope="module")
def own_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config folder with the tasks that a page shows."""
    folder = tmp_path_factory.mktemp("conf")
    (folder / "task").mkdir()
    for name in OWN_TASKS:
        text = record.fenced("docs/learn/own-task.md", f"conf/task/{name}.yaml")
        (folder / "task" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def compose_checked(command: str, overrides: list[str], searched: Path) -> Any:
    """Return the command's config as its dataclass; for a multirun, that of its first job."""
    is_multirun = "--multirun" in overrides
    given = [override for override in overrides if not override.startswith("--") and override not in ("job",)]
    parser = OverridesParser.create()
    first = []
    for override in given:
        parsed = parser.parse_override(override)
        swept = is_multirun and parsed.is_sweep_override() and not override.startswith("hydra.")
        first.append(f"{parsed.key_or_group}={next(parsed.sweep_string_iterator())}" if swept else override)
    if command == "train" and not any(override.startswith("model=") for override in first):
        first.append("model=minilm")  # a possible choice of `auto`
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose(command, [*first, f"hydra.searchpath=[file://{searched}]"], return_hydra_config=True)
        varied = composed.hydra.sweeper.get("params") or {}
        assert is_multirun or not varied
    with open_dict(composed):
        del composed.hydra
    return from_hydra(config_reference.COMMANDS[command], composed)


@pytest.mark.parametrize("line", OWN)
def test_documented_command_composes_a_valid_config(line: str, own_tasks: Path) -> None:
    command, arguments = project_command(line) or ("", [])
    compose_checked(command, hydra_arguments(arguments), own_tasks)


def test_unknown_key_in_a_documented_command_raises(own_tasks: Path) -> None:
    command, arguments = project_command('make train TASK=cola ARGS="training.epoch=1"') or ("", [])
    with pytest.raises(Exception, match="epoch"):
        compose_checked(command, arguments, own_tasks)


def test_documented_commands_of_other_programs_are_run_by_a_test() -> None:
    others = [line for line in LINES if line not in OWN and not line.startswith("make ")]
    assert [line for line in others if not line.startswith(tuple(RUN_BY))] == []
    assert [prefix for prefix in RUN_BY if not any(line.startswith(prefix) for line in others)] == []
    assert all((ROOT / test).is_file() for test in RUN_BY.values() if "/" in test)


def test_documented_cluster_commands_are_marked() -> None:
    blocks = [text for page in PAGES for text in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)]
    for_cluster = [block for block in blocks if re.search(r"spark://HOST|spark=(yarn|kube)", block)]
    assert len(for_cluster) >= 3
    assert [block for block in for_cluster if not block.startswith("# needs a cluster\n")] == []


@cache
def messages() -> list[str]:
    """Return all string literals of the code, with an ellipsis for each inserted value."""
    found = []
    for file in [*(ROOT / "src").rglob("*.py"), ROOT / "Makefile"]:
        text = file.read_text(encoding="utf-8")
        if file.suffix != ".py":
            found.append(text)
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_messages_quoted_in_troubleshooting_exist_in_the_code() -> None:
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^### `(.*)`$", text, re.MULTILINE)
    assert len(quoted) > 50 and len(quoted) == len(re.findall("^### ", text, re.MULTILINE))
    gone = []
    for message in quoted:
        parts = [re.escape(part) for part in message.split("…")]
        if not any(re.search(".*".join(parts), known, re.DOTALL) for known in messages()):
            gone.append(message)
    assert gone == []


def test_documented_paths_exist() -> None:
    path = re.compile(r"(?:`|\]\()((?:\.\./)*(?:docs|conf|src|tests|benchmarks)/[\w./-]*\w)[`)]")
    mentioned = {(page.name, name) for page in PAGES for name in path.findall(page.read_text(encoding="utf-8"))}
    assert len(mentioned) > 20
    mentioned = {each for each in mentioned if not re.search(r"[A-Z]{4}|tickets|helpfulness", each[1])}
    assert [each for each in sorted(mentioned) if not (ROOT / each[1].replace("../", "")).exists()] == []


def test_documented_config_keys_exist() -> None:
    known = {key.split()[-1].replace("HEAD.", "") for key in config_reference.read_keys()}
    groups = {key.partition(".")[0] for key in known if "." in key} - {"task", "model"}  # tags begin with these
    key = re.compile(rf"`((?:{'|'.join(sorted(groups))})(?:\.[a-z_]+)+)(?:=[^`]*)?`")
    mentioned = {(page.name, name) for page in PAGES for name in key.findall(page.read_text(encoding="utf-8"))}
    assert len(mentioned) > 40
    sections = {name.rpartition(".")[0] for name in known}
    allowed = known | sections | {"data.source"}
    gone = [each for each in sorted(mentioned) if each[1] not in allowed and not each[1].startswith(NOT_KEYS)]
    assert gone == []


def test_every_config_key_has_a_meaning() -> None:
    keys = config_reference.read_keys()
    assert [name for name, key in keys.items() if not key.meaning] == []
    assert sorted(config_reference.read_meanings().keys() - keys.keys()) == []


def test_decision_records_are_numbered_without_gaps() -> None:
    records = decisions.read()
    assert [each.number for each in records] == list(range(1, len(records) + 1))
    assert all(each.file.name.startswith(f"{each.number:04d}-") for each in records)


def test_generated_parts_of_the_pages_are_up_to_date() -> None:
    texts = {page.name: page.read_text(encoding="utf-8") for page in fill.PAGES}
    assert len(tables.MARKED.findall(texts["README.md"])) >= 3
    assert [name for name, text in texts.items() if fill.written(text) != text] == [], "run `make docs`"


def test_table_without_its_results_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    page = "<!-- table: {} -->\n<!-- /table -->"
    assert "\nNot measured yet: there is no `growth.json`.\n" in fill.written(page.format("growth"))
    assert fill.written(page.format("measured-growth")) == "<!-- table: measured-growth -->\n\n<!-- /table -->"


def test_picture_of_growth_is_of_the_recorded_results() -> None:
    picture = ROOT / "docs/images/growth.svg"
    try:
        panels = tables.results("growth")["panels"]
    except tables.NotMeasuredError:
        assert not picture.exists()
    else:
        assert pictures.digest(panels) in picture.read_text(encoding="utf-8"), "run docs/generate/pictures.py"


def test_pictures_of_made_up_growth_are_drawn() -> None:
    points = [{"size": size, "seconds": size, "command_seconds": size + 8} for size in (1, 20, 3000)]
    panels = {f"panel {number}": {"points": points, "shared": number == 3} for number in range(6)}
    drawn = pictures.growth(panels)
    assert pictures.digest(panels) in drawn
    assert [text for text in (*panels, "linear growth", "3k") if f">{text}</text>" not in drawn] == []


def test_readme_is_short_and_shows_the_main_commands() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120 and max(map(len, text.splitlines())) <= 120
    assert text.index("make train TASK=cola") < text.index("make test") < text.index("mlflow run . -P task=cola ")
    uses = (
        "--experiment-name",
        "make promote",
        "--multirun task=cola experiment=class_weights",
        "`Compare`",
        "make compare",
    )
    assert [use for use in uses if use not in text] == []
    assert "make test\n" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_recorded_benchmarks_show_no_speedup_at_equal_batch_and_equal_quality() -> None:
    scaling = tables.results("cluster_training")["on_paper"]["scaling"]
    assert max(point["same_batch_speedup"] for points in scaling.values() for point in points) == 1
    one, two = (tables.results(f"quality_{name}")["summary"]["dev/pearson"] for name in ("stsb", "stsb_two_workers"))
    assert abs(two["mean"] - one["mean"]) < min(two["sd"], one["sd"])


def test_version_is_the_same_in_all_files() -> None:
    places = {"pyproject.toml": r'^version = "(.+)"', "CITATION.cff": r"^version: (.+)"}
    found = {re.findall(line, (ROOT / file).read_text(), re.MULTILINE)[0] for file, line in places.items()}
    assert found == {__version__}


def test_doctests_of_the_generators_pass() -> None:
    results = [doctest.testmod(module) for module in (tables, linearity, config_reference)]
    assert [each.failed for each in results] == [0, 0, 0]
    assert all(each.attempted for each in results)


def test_pictures_are_small() -> None:
    shown = {name for page in PAGES for name in re.findall(r"images/([\w-]+\.\w+)", page.read_text(encoding="utf-8"))}
    sizes = {file.name: file.stat().st_size for file in (ROOT / "docs/images").iterdir()}
    assert shown == sizes.keys() != set()
    assert {name: size for name, size in sizes.items() if not 0 < size <= 200_000} == {}


def test_tutorial_data_is_reproducible_and_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import runpy

    for name in ("a", "b"):
        monkeypatch.setattr("sys.argv", ["make_tickets.py", str(tmp_path / name)])
        runpy.run_path(str(ROOT / "docs/tutorials/make_tickets.py"), run_name="__main__")
    first, second = ((tmp_path / name / "dev.csv").read_text() for name in ("a", "b"))
    assert first == second
    shown = record.fenced("docs/learn/own-data.md", "tickets/dev.csv")
    assert len(shown.splitlines()) > 1 and first.startswith(shown)
