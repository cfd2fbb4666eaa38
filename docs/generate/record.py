"""Record the outputs that the documentation shows: run its commands in a temporary folder, and keep what they print.

`.venv/bin/python docs/generate/record.py [NAME ...]` writes `docs/outputs/NAME.txt`; all of them take ten minutes.
The steps of the tutorial build on one another. `pictures.py` draws the terminal from one of the files.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

ROOT = Path(__file__).parents[2]
OUTPUTS = ROOT / "docs" / "outputs"
OWN = "data=files data.path=tickets"
STREAM = "predict.streaming=true predict.available_now=true"
BOTH = "models:/distilspark-tickets@champion,models:/distilspark-tickets@challenger"
STEPS = {
    "train_cola": "train task=cola",
    "start_cola": "train task=cola model=minilm training.pretraining.rows=0",
    "start_predict": "predict task=cola input=sentences.txt output=scored_start predict.format=csv",
    "tickets_train": f"train task=tickets {OWN} model=minilm",
    "tickets_predict": f"predict task=tickets input=inbox output=scored {STREAM}",
    "tickets_challenger": f"train task=tickets {OWN} model=minilm training.seed=2 training.early_stopping.patience=4",
    "tickets_promote": f"promote task=tickets {OWN}",
    "tickets_compare": f"compare models=[{BOTH}]",
}
NOT_SHOWN = {"start_predict", "tickets_challenger"}


def fenced(page: str, title: str) -> str:
    """Return the block of a page that has the title of a file."""
    found = re.search(
        rf'```\w+ title="{re.escape(title)}"\n(.*?)```', (ROOT / page).read_text(encoding="utf-8"), re.DOTALL
    )
    assert found, f"{page} has no block {title}"
    return found[1]


def prepare(folder: Path) -> None:
    """Write the tutorial's files: the task, the tickets, and the first batch."""
    for name, page in (
        ("conf/task/tickets.yaml", "docs/learn/own-task.md"),
        ("inbox/monday.csv", "docs/learn/own-data.md"),
    ):
        file = folder / name
        file.parent.mkdir(parents=True)
        file.write_text(fenced(page, name), encoding="utf-8")
    (folder / "sentences.txt").write_text("The cat sat on the mat.\nThe cat sat mat on the.\n", encoding="utf-8")
    subprocess.run([sys.executable, str(ROOT / "docs/tutorials/make_tickets.py"), "tickets"], cwd=folder, check=True)


def run(arguments: str, folder: Path) -> str:
    """Run a command in the folder; return what it prints, as it is with the project's own store."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "src"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }
    searched = f"hydra.searchpath=[file://{folder}/conf]"
    fresh = (
        ["training.resume=false"] if arguments.startswith("train") else []
    )  # ignore an earlier recording's checkpoints
    command = [sys.executable, "-m", "distilspark", *arguments.split(), *fresh, searched]
    ended = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    if ended.returncode:
        sys.exit(f"{arguments} ended with {ended.returncode}:\n{ended.stdout}")
    printed = ended.stdout
    return re.sub(r" STORE=\S+`", "`", printed).replace(f"file:{folder}/", "").replace(f"{folder}/", "")


def main() -> None:
    """Run the steps that are named, or all."""
    wanted = sys.argv[1:] or list(STEPS)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder)
        for name in wanted:
            printed = run(STEPS[name], folder)
            if name not in NOT_SHOWN:
                (OUTPUTS / f"{name}.txt").write_text(printed, encoding="utf-8")
        for part in (folder / "scored_start").glob("part-*.csv"):
            (OUTPUTS / "start_scored.csv").write_text(part.read_text(encoding="utf-8"), encoding="utf-8")
        if (scored := folder / "scored").is_dir():
            rows = pd.concat([pd.read_parquet(batch) for batch in sorted(scored.glob("batch=*"))])
            (OUTPUTS / "tickets_rows.txt").write_text(f"{rows.to_string(index=False)}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
