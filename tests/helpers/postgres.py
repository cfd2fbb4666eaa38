"""A temporary PostgreSQL cluster on 127.0.0.1."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

PASSWORD = "a p@ss/w%rd:"  # with characters that a URL and MLflow's settings file must escape


def free_port() -> int:
    """Return a free port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def binaries() -> Path | None:
    """Return the folder with `initdb` and `pg_ctl`, which Debian keeps off the PATH; None without PostgreSQL."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = shutil.which("initdb") or (str(debian[-1]) if debian else None)
    return Path(found).parent if found else None


@contextmanager
def cluster(binaries: Path) -> Iterator[str]:
    """Start a database and yield its URL."""
    folder, port = Path(tempfile.mkdtemp(prefix="distilspark-postgres-")), free_port()
    as_owner = _not_root(folder)

    def run(name: str, *arguments: str) -> None:
        command = [str(binaries / name), "-D", str(folder / "data"), *arguments]
        output = (folder / f"{name}.log").open("wb")
        subprocess.run(command, cwd=folder, check=True, stdout=output, stderr=output, timeout=120, **as_owner)

    try:
        (folder / "password").write_text(PASSWORD)
        run("initdb", "--username=mlflow", f"--pwfile={folder / 'password'}", "--auth=scram-sha-256", "--no-sync")
        settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        run("pg_ctl", "start", "-w", "-o", settings)
        try:
            yield f"postgresql://mlflow:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


def _not_root(folder: Path) -> dict[str, Any]:
    """Return subprocess arguments that run a command as user postgres if we are root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return {}
    owner = pwd.getpwnam("postgres")
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
