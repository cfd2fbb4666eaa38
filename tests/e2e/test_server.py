"""A tracking server for a team: PostgreSQL, basic authentication, and all commands over HTTP."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import requests

from distilspark.tracking.model_card import GATE_HEADING
from helpers.postgres import PASSWORD, binaries, cluster, free_port
from helpers.processes import TINY, Place, end_group, train_command
from helpers.texts import has_facts, lines_with

pytestmark = pytest.mark.slow
SMALL = ("spark.master=local[1]", "spark.driver_memory=1g", "spark.shuffle_partitions=1")
USERS = {"ann": "ann's own password", "bob": "bob's own password"}
PLANTED = "hunter2-Tr0ub4dor"  # set in variables that hold other programs' secrets
API = "api/2.0/mlflow"


@dataclass
class Server:
    """`python -m distilspark server` on its own port."""

    place: Place
    store: str
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.place.folder / "server.log"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        own = {"folder": self.place.folder / "secret", "artifacts": self.place.folder / "artifacts"}
        settings = [f"{key}={value}" for key, value in own.items()]
        command = [sys.executable, "-m", "distilspark", "server", f"port={self.port}", "auth=on", *settings]
        planted = dict.fromkeys(("MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"), PLANTED)
        environment = self.place.environment | planted | {"MLFLOW_BACKEND_STORE_URI": self.store}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=self.place.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + 180
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=10).ok
        except requests.ConnectionError:
            return False

    def stop(self) -> int:
        """Send SIGTERM, as systemd does, and return the exit code."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def ask(self, path: str, auth: tuple[str, str] | None, **content: Any) -> requests.Response:
        """POST to MLflow's API with a username and password."""
        return requests.post(f"{self.url}/{API}/{path}", json=content, auth=auth, timeout=60)

    def as_user(self, name: str, password: str | None = None) -> dict[str, str]:
        """Return the environment of a user's command."""
        return {
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_TRACKING_USERNAME": name,
            "MLFLOW_TRACKING_PASSWORD": password or USERS[name],
        }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on its own PostgreSQL, with two users that its admin created."""
    found = binaries()
    if found is None:
        pytest.skip("no PostgreSQL on this machine (Debian: apt-get install postgresql)")
    place = Place(tmp_path_factory.mktemp("server"))
    with cluster(found) as store:
        running = Server(place, store)
        running.start()
        try:
            for name, password in USERS.items():
                made = running.ask("users/create", admin(running), username=name, password=password)
                assert made.ok, made.text
            yield running
        finally:
            assert running.process
            end_group(running.process)  # type: ignore[arg-type]


def told_password(server: Server) -> str:
    """Return the admin's password from the file that the server wrote."""
    return (server.place.folder / "secret" / "admin_password").read_text()


def admin(server: Server) -> tuple[str, str]:
    return "admin", told_password(server)


def test_server_listens_on_localhost_only(server: Server) -> None:
    assert server.process
    tree = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    listening = {each.laddr for process in tree for each in process.net_connections() if each.status == "LISTEN"}
    assert {(address.ip, address.port) for address in listening} == {("127.0.0.1", server.port)}


def test_only_the_admin_password_is_printed_and_only_once(server: Server) -> None:
    said = server.log.read_text()
    assert said.count(told_password(server)) == 1
    assert len(lines_with(said, "password", "admin", told_password(server))) == 1
    assert f"postgresql+psycopg2://mlflow:***@127.0.0.1:{server.store[-14:-9]}/postgres" in said
    hidden = (PASSWORD, server.store.split(":")[2].split("@")[0], PLANTED)
    assert not [each for each in hidden if each in said]
    assert server.process
    for process in [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]:
        assert not [each for each in hidden if each in " ".join(process.cmdline())]
    files = [file for file in server.place.folder.rglob("*") if file.is_file()]
    assert not [file for file in files if PLANTED.encode() in file.read_bytes()]
    secret = server.place.folder / "secret"
    assert {file.stat().st_mode & 0o777 for file in secret.iterdir()} == {0o600}
    assert secret.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "auth", [None, ("admin", "password1234"), ("admin", "password"), ("ann", "a wrong password"), ("nobody", "")]
)
def test_wrong_or_missing_credentials_get_401(server: Server, auth: tuple[str, str] | None) -> None:
    assert server.ask("experiments/search", auth, max_results=1).status_code == 401
    assert requests.get(server.url, auth=auth, timeout=60).status_code == 401


@pytest.mark.parametrize(
    "host, status",
    [
        *(("127.0.0.1:{port}", 200), ("localhost:{port}", 200), ("[::1]:{port}", 200), ("localhost", 200)),
        *(("10.attacker.example", 403), ("192.168.evil.example", 403), ("10.0.0.7:{port}", 403), ("localhost:1", 403)),
    ],
)
def test_requests_for_another_host_name_get_403(server: Server, host: str, status: int) -> None:
    """Protects against DNS rebinding: a page whose name resolves to this machine cannot read anything."""
    named = {"Host": host.format(port=server.port)}
    for path in ("", f"{API}/experiments/search?max_results=1"):
        answer = requests.get(f"{server.url}/{path}", headers=named, auth=admin(server), timeout=60)
        assert answer.status_code == status, answer.text


def test_server_starts_no_job_workers(server: Server) -> None:
    assert server.process
    names = [" ".join(each.cmdline()) for each in psutil.Process(server.process.pid).children(recursive=True)]
    assert names and not [name for name in names if "huey" in name or "job" in name]


@pytest.fixture(scope="module")
def trained(server: Server) -> subprocess.CompletedProcess[str]:
    """Ann's training; the server is killed during it and restarted."""
    process = server.place.start(
        *train_command("task=cola", "training.epochs=2", "spark.master=local[1]"),
        **server.as_user("ann"),
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        shown = ""
        for line in process.stdout:
            shown += line
            if line.startswith("epoch 1/"):
                break
        else:
            pytest.fail(process.stderr.read())
        assert server.process
        end_group(server.process)  # type: ignore[arg-type]
        server.start()
        output, error = process.communicate(timeout=600)
    finally:
        end_group(process)
    return subprocess.CompletedProcess([], process.returncode, shown + output, error)


@pytest.fixture
def ann(server: Server, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The store as Ann sees it, over HTTP."""
    for name, value in server.as_user("ann").items():
        monkeypatch.setenv(name, value)

    class OverHttp(Place):
        store = server.url

    return OverHttp(server.place.folder)


def test_training_survives_a_server_restart(trained: subprocess.CompletedProcess[str], ann: Place) -> None:
    assert trained.returncode == 0, trained.stderr
    assert trained.stderr == ""
    assert f"look at it: {ann.store}" in trained.stdout
    (run,) = ann.runs("distilspark-cola")
    assert run.info.status == "FINISHED"
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert [point.step for point in ann.client.get_metric_history(run.info.run_id, "val/mcc")] == [1, 2]
    stored = ann.artifacts(run)
    assert {"train.log", "config/config.yaml", "evaluation/predictions.parquet"} <= set(stored)
    assert [path for path in stored if path.startswith("images/evaluation~")]
    assert str(ann.client.get_model_version_by_alias("distilspark-cola", "challenger").version) == "1"


def test_artifacts_are_uploaded_through_the_server(trained: subprocess.CompletedProcess[str], ann: Place) -> None:
    assert trained.returncode == 0
    assert not (ann.folder / "mlruns").exists() and not (ann.folder / "mlflow.db").exists()
    assert list((ann.folder / "artifacts").rglob("MLmodel"))


def test_restart_prints_no_password(trained: subprocess.CompletedProcess[str], server: Server) -> None:
    assert trained.returncode == 0
    assert told_password(server) not in server.log.read_text()
    assert server.ask("experiments/search", admin(server), max_results=1).ok


def test_another_user_scores_with_the_model(
    trained: subprocess.CompletedProcess[str], server: Server, tmp_path: Path, ann: Place
) -> None:
    assert trained.returncode == 0
    (tmp_path / "rows.txt").write_text("The cat sleeps.\nThe cat sleep.\n")
    files = [f"input={tmp_path / 'rows.txt'}", f"output={tmp_path / 'scored'}"]
    model = "model_uri=models:/distilspark-cola@challenger"
    command = [sys.executable, "-m", "distilspark", "predict", *SMALL, *files, model]
    ended = server.place.run(*command, **server.as_user("bob"))
    assert ended.returncode == 0, ended.stderr
    rows = pd.read_parquet(tmp_path / "scored")
    assert rows["error"].tolist() == ["", ""] and rows["model_version"].tolist() == ["1", "1"]
    (run,) = ann.runs("distilspark-cola-scoring")
    assert run.data.tags["mlflow.user"] and run.data.metrics["rows/scored"] == 2
    assert "manifest.json" in ann.artifacts(run)


def test_another_user_runs_promote_on_the_model(
    trained: subprocess.CompletedProcess[str], server: Server, tmp_path: Path, ann: Place
) -> None:
    assert trained.returncode == 0
    if "champion" in ann.client.get_registered_model("distilspark-cola").aliases:
        ann.client.delete_registered_model_alias("distilspark-cola", "champion")
    data = [each for each in TINY if each.startswith("data")]
    command = [sys.executable, "-m", "distilspark", "promote", *data, *SMALL, f"hydra.run.dir={tmp_path / 'hydra'}"]
    ended = server.place.run(*command, **server.as_user("bob"))
    assert ended.returncode == 0, ended.stderr
    (run,) = ann.runs("distilspark-cola-promotion")
    version = ann.client.get_model_version("distilspark-cola", "1")
    verdict = version.tags["gate.verdict"]
    assert len(lines_with(ended.stdout, "version 1", verdict, "mcc")) == 1
    assert version.tags["gate.run_id"] == run.info.run_id
    assert version.description.startswith("# CoLA") and f"{GATE_HEADING}{verdict}: " in version.description
    aliases = ann.client.get_registered_model("distilspark-cola").aliases
    assert ("champion" in aliases) is (verdict == "promoted")


def test_another_user_may_move_an_alias_but_not_delete_the_model(
    trained: subprocess.CompletedProcess[str], server: Server
) -> None:
    assert trained.returncode == 0
    bob = ("bob", USERS["bob"])
    model = {"name": "distilspark-cola"}
    assert server.ask("registered-models/alias", bob, **model, alias="bobs", version="1").ok
    refused = requests.delete(f"{server.url}/{API}/registered-models/delete", json=model, auth=bob, timeout=60)
    assert refused.status_code == 403


def refused_command(place: Place, tmp_path: Path, command: str, **environment: str) -> str:
    """Return the exit code and the one line of error of a command that leaves no output."""
    (tmp_path / "rows.txt").write_text("A row.\n")
    predict = ["predict", *SMALL, f"input={tmp_path / 'rows.txt'}", f"output={tmp_path / 'scored'}"]
    commands = {
        "train": train_command("task=cola"),
        "predict": [sys.executable, "-m", "distilspark", *predict],
        "promote": [sys.executable, "-m", "distilspark", "promote", *SMALL],
    }
    started = time.monotonic()
    ended = place.run(*commands[command], f"hydra.run.dir={tmp_path / 'hydra'}", **environment)
    assert time.monotonic() - started < 60
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert not list(tmp_path.glob("*scored*"))
    return f"{ended.returncode} {ended.stderr}"


@pytest.mark.parametrize("command", ["train", "predict", "promote"])
def test_wrong_password_fails_within_a_minute(server: Server, tmp_path: Path, command: str) -> None:
    said = refused_command(server.place, tmp_path, command, **server.as_user("ann", "a wrong password"))
    assert said.startswith("2 distilspark: ")
    assert has_facts(said, server.url, "ann", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    assert "a wrong password" not in said


def test_missing_password_fails_within_a_minute(server: Server, tmp_path: Path) -> None:
    said = refused_command(server.place, tmp_path, "train", MLFLOW_TRACKING_URI=server.url)
    assert said.startswith("2 distilspark: ") and has_facts(said, server.url, "MLFLOW_TRACKING_USERNAME")


@pytest.mark.parametrize("command", ["train", "predict", "promote"])
def test_unreachable_server_fails_within_a_minute(place: Place, tmp_path: Path, command: str) -> None:
    said = refused_command(place, tmp_path, command, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert said.startswith("1 distilspark: ") and has_facts(said, "http://127.0.0.1:9", "MLFLOW_TRACKING_URI")


def test_server_stops_on_sigterm(server: Server) -> None:
    """Must be the last test: it stops the server."""
    assert server.stop() == 0
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", server.port)):
        pass
