"""A secret in every setting that takes one is found in nothing that a training and a scoring write."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from helpers.processes import TINY, Place

pytestmark = pytest.mark.slow
SECRET = "hunter2-Tr0ub4dor"
SPARK = [
    f"+spark.settings={{spark.hadoop.fs.s3a.secret.key:{SECRET},spark.hadoop.fs.s3a.access.key:{SECRET}-id,"
    f"spark.hadoop.javax.jdo.option.ConnectionURL:'jdbc:x://ann:{SECRET}@db/x?password={SECRET}'}}"
]
VARIABLES = {
    "MLFLOW_TRACKING_USERNAME": "ann",
    "MLFLOW_TRACKING_PASSWORD": SECRET,
    "MLFLOW_TRACKING_TOKEN": SECRET,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "HF_TOKEN": SECRET,
}


class CommandLines(threading.Thread):
    """Records the command lines of all processes in a session while it lives, as `ps` shows them."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.session, self.seen = session, set[bytes]()

    def run(self) -> None:
        while Path(f"/proc/{self.session}").exists():
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    if os.getsid(int(folder.name)) == self.session:
                        self.seen.add(folder.joinpath("cmdline").read_bytes())
                except OSError:
                    continue


def files_with_the_secret(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("secrets"))


def run(place: Place, *command: str, **environment: str) -> tuple[int, str]:
    (place.folder / "overrides").mkdir(exist_ok=True)
    process = place.start(sys.executable, "-m", "distilspark", *command, **VARIABLES, **environment)
    watched = CommandLines(process.pid)
    watched.start()
    output, error = process.communicate(timeout=300)
    watched.join()
    own = b"\0".join(map(str.encode, command))
    shown = [line for line in watched.seen if SECRET.encode() in line and own not in line]
    assert not shown, "ps shows it"
    assert len(watched.seen) > 1
    return process.returncode, output + error


def test_training_and_scoring_write_no_secret(place: Place) -> None:
    (place.folder / "rows.txt").write_text("The dog sleeps.\nDog the.\n")
    code, shown = run(place, "train", "task=cola", *TINY, *SPARK, f"hydra.run.dir={place.folder}/train")
    assert code == 0, shown
    scored = [f"{name}={place.folder}/{value}" for name, value in (("input", "rows.txt"), ("output", "scored"))]
    model = "model_uri=models:/distilspark-cola/1"
    code, more = run(place, "predict", "task=cola", *scored, model, *SPARK, f"hydra.run.dir={place.folder}/predict")
    assert code == 0, more
    assert SECRET not in shown + more
    assert not files_with_the_secret(place.folder)
    (found,) = place.runs("distilspark-cola")
    assert found.data.params["spark.settings.spark.hadoop.fs.s3a.secret.key"] == "***"
    assert found.data.params["spark.settings.spark.hadoop.javax.jdo.option.ConnectionURL"].startswith(
        "jdbc:x://ann:***@"
    )


@pytest.mark.parametrize("uri", [f"http://ann:{SECRET}@127.0.0.1:9", f"postgresql://127.0.0.1:9/x?password={SECRET}"])
def test_unreachable_store_is_named_without_its_password(place: Place, uri: str) -> None:
    code, shown = run(place, "train", *TINY, f"hydra.run.dir={place.folder}/away", MLFLOW_TRACKING_URI=uri)
    assert code == 1
    assert "127.0.0.1:9" in shown and SECRET not in shown
    assert not files_with_the_secret(place.folder)
