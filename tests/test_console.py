"""Output to the terminal and to the log file."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import distilspark.console
from distilspark.console import new_log, show_table
from distilspark.errors import UserError
from distilspark.paths import ROOT

NOISY = """
import logging, os, subprocess, sys, warnings
from pathlib import Path
from distilspark.console import log_to_stderr, output_to, progress_bar, print_line, show_table
logging.getLogger("distilspark").disabled = True  # as Hydra leaves it
print_line("before")
with output_to(Path(sys.argv[1]) / "new" / "x.log"):
    log_to_stderr()
    print("python's own print")
    print("python's own error", file=sys.stderr)
    os.write(1, b"written by C\\n")
    subprocess.run(["sh", "-c", "echo a child; echo its error >&2"])
    logging.getLogger("other.library").warning("a record")
    logging.getLogger("py4j").info("chatter of py4j")
    warnings.warn("a warning")
    print_line("seen [bold]by[/bold] a person")
    show_table("Results", ("metric", "value"), (("mcc", "0.5"),))
    with progress_bar() as bar:
        bar.update(bar.add_task("epoch", total=2), advance=1)
    if sys.argv[2] == "raise":
        raise SystemExit(3)
print("after")
os.write(2, b"after\\n")
"""


def run(folder: Path, ending: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", NOISY, str(folder), ending]
    return subprocess.run(
        command, env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, timeout=60, check=False
    )


def test_only_lines_and_tables_of_the_console_reach_the_terminal(tmp_path: Path) -> None:
    ended = run(tmp_path, "return")
    assert ended.returncode == 0
    assert ended.stderr == "after\n"
    lines = ended.stdout.splitlines()
    assert lines[:3] == ["before", "seen [bold]by[/bold] a person", "Results"]
    assert lines[-1] == "after"
    assert any("mcc" in line and "0.5" in line for line in lines[3:-1])
    assert "epoch" not in ended.stdout  # without a terminal there is no progress bar


def test_log_has_all_output_and_the_printed_lines(tmp_path: Path) -> None:
    run(tmp_path, "return")
    log = (tmp_path / "new" / "x.log").read_text()
    parts = (
        "python's own print",
        "python's own error",
        "written by C",
        "a child",
        "its error",
        "a record",
        "a warning",
    )
    for part in (*parts, "seen [bold]by[/bold] a person", "Results: mcc | 0.5"):
        assert part in log
    assert "chatter of py4j" not in log
    assert "after" not in log


def test_terminal_is_restored_after_a_failure_and_logs_are_appended(tmp_path: Path) -> None:
    for _ in range(2):
        ended = run(tmp_path, "raise")
        assert ended.returncode == 3
    assert (tmp_path / "new" / "x.log").read_text().count("a record") == 2


@pytest.mark.parametrize("width, is_terminal", [(80, False), (80, True), (50, True)])
def test_table_cells_are_wrapped_and_not_cut(monkeypatch: pytest.MonkeyPatch, width: int, is_terminal: bool) -> None:
    shown = io.StringIO()
    screen = Console(file=shown, width=width, force_terminal=is_terminal, color_system=None)
    monkeypatch.setattr(distilspark.console, "terminal", screen)
    row = ("class_weights=balanced", "3", "0.2434", "0.1830 to 0.3021", "+0.0024", "-0.0544 to +0.0540", "p = .955")
    show_table("Found", ("variant", "seeds", "mcc", "interval", "difference", "interval", "p"), [row])
    lines = [line for line in shown.getvalue().splitlines() if line.startswith("│")]
    cells = zip(*(line.split("│")[1:-1] for line in lines), strict=True)
    assert [re.sub(r"\s", "", "".join(cell)) for cell in cells] == [re.sub(r"\s", "", cell) for cell in row]
    assert (len(lines) > 1) == is_terminal
    assert max(map(len, lines)) <= width or not is_terminal


def test_lines_have_the_prefix_of_their_job(tmp_path: Path) -> None:
    code = """
from distilspark.console import print_line, show_table, set_prefix
set_prefix("seed 1")
print_line("begins")
show_table("Results", ("metric", "value"), (("mcc", "0.5"),))
set_prefix(None)
print_line("alone")
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=True
    )
    lines = ended.stdout.splitlines()
    assert (lines[0], lines[1].strip(), lines[-1]) == ("seed 1: begins", "seed 1: Results", "alone")


def test_format_metrics_joins_names_and_rounded_values() -> None:
    from distilspark.console import format_metrics

    assert format_metrics({}) == ""
    assert format_metrics({"val/mcc": 0.45514, "loss": 2}) == "val/mcc 0.4551  loss 2.0000"


@pytest.mark.parametrize("name", ["cli", "preflight", "console"])
def test_cli_modules_do_not_import_heavy_packages(name: str) -> None:
    """User errors are found before TensorFlow and Spark start, which takes seconds."""
    heavy = ["tensorflow", "keras", "pyspark", "mlflow", "pandas", "transformers", "hydra"]
    code = f"import sys, distilspark.{name}; print([each for each in {heavy} if each in sys.modules])"
    ended = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]"


def test_standard_output_can_be_restored_inside_a_log(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from distilspark.console import output_to, print_line, standard_output
logs = Path(sys.argv[1])
with output_to(logs / "outer.log") as terminal:
    print("to the outer log")
    print_line("first")
    with standard_output(terminal):
        print("second")
        os.write(2, b"an error\\n")
        with output_to(logs / "inner.log"):
            print("to the inner log")
            print_line("third")
    print("to the outer log again")
    print_line("fourth")
print("fifth")
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    ended = subprocess.run(
        command, env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.split() == ["first", "second", "third", "fourth", "fifth"]
    assert ended.stderr == ""
    assert (tmp_path / "outer.log").read_text() == "to the outer log\nan error\nto the outer log again\n"
    assert (tmp_path / "inner.log").read_text() == "to the inner log\n"


# Prints more than a pipe holds, outside and inside a log.
LOUD = """
import sys
from pathlib import Path
from distilspark.console import keep_standard_streams, output_to, print_line, show_table
keep_standard_streams()
print("first")
for where in range(2):
    with output_to(Path(sys.argv[1]) / "loud.log"):
        for number in range(4000):
            print_line(f"line {number} \\u65e5 \\udcff")
            print(f"to the log {number}")
        show_table("Results", ("metric", "value"), (("mcc", "0.5"),))
    print("between " * 4000)
    print("an error " * 4000, file=sys.stderr)
Path(sys.argv[1], "end").touch()
"""


def loud(folder: Path, redirected: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run LOUD in a shell with redirected output; the exit code is Python's."""
    command = f'set -o pipefail; "$0" -c "$1" "$2" {redirected}'
    return subprocess.run(
        ["bash", "-c", command, sys.executable, LOUD, str(folder)],
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "redirected",
    ["| head -n 1", "| true", "2>&1 | head -n 1", ">/dev/full", ">/dev/full 2>&1", ">&-", ">&- 2>&- <&-", "2>&-"],
)
def test_closed_or_full_output_is_no_error(tmp_path: Path, redirected: str) -> None:
    ended = loud(tmp_path, redirected)
    assert ended.returncode == 0, ended.stderr[-1000:]
    assert (tmp_path / "end").exists()
    assert "Traceback" not in ended.stderr and "BrokenPipe" not in ended.stderr
    assert (tmp_path / "loud.log").read_text().count("to the log") == 8000


def test_characters_that_the_terminal_cannot_encode_are_escaped(tmp_path: Path) -> None:
    ended = loud(tmp_path, "", PYTHONIOENCODING="ascii")
    assert ended.returncode == 0, ended.stderr[-1000:]
    assert "line 0 \\u65e5 \\udcff" in ended.stdout


def test_logs_of_earlier_runs_are_renamed_with_numbers(tmp_path: Path) -> None:
    log = tmp_path / "out" / "train.log"
    for number in range(3):
        new_log(log)
        assert log.read_text() == ""
        log.write_text(f"of run {number}")
    texts = {file.name: file.read_text() for file in log.parent.iterdir()}
    assert texts == {"train-1.log": "of run 0", "train-2.log": "of run 1", "train.log": "of run 2"}


def test_unwritable_log_folder_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/out .*hydra\.run\.dir"):
        new_log(tmp_path / "file" / "out" / "train.log")


def test_standard_error_can_be_read_back(tmp_path: Path) -> None:
    code = """
import os, subprocess, sys
from pathlib import Path
from distilspark.console import output_to, written_to_stderr
with written_to_stderr() as nothing, output_to(Path(sys.argv[1]) / "x.log"):
    os.write(2, b"before\\n")
    with written_to_stderr() as written:
        subprocess.run(["sh", "-c", "echo a child >&2"], check=True)
        seen = written()
print([seen, nothing()])
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    ended = subprocess.run(
        command, env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "['a child\\n', '']\n"
