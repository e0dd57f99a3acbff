"""Servers as plain processes, for tests: PostgreSQL from Debian's or any other package, MLflow, an S3 server; each ends with its test."""

from __future__ import annotations

import contextlib
import http.client
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

HOST = "127.0.0.1"
USER, PASSWORD, DATABASE = "automl", "not-a-word-of-it", "studies"
LIMIT_S = 180.0  # for a start or an end, on a busy machine


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def postgres_binaries() -> Path:
    """The folder of initdb and postgres; a skip that says what to install."""
    for place in (shutil.which("initdb"), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), reverse=True)):
        if place is not None:
            return Path(place).resolve().parent
    pytest.skip("PostgreSQL is not installed: apt-get install postgresql")


class Postgres:
    """A PostgreSQL of our own with the user `automl`, who needs a password, and the database `studies`; a context manager."""

    def __init__(self) -> None:
        self.binaries, self.port = postgres_binaries(), free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self.url = f"postgresql://{USER}@{HOST}:{self.port}/{DATABASE}"
        # the server refuses to run as root
        self._as = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Postgres:
        with contextlib.ExitStack() as undo:
            undo.push(self)
            self._make()
            undo.pop_all()
        return self

    def _make(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if self._as:
            for path in (self.folder, secret):
                shutil.chown(path, "nobody", pwd.getpwnam("nobody").pw_gid)
        data = str(self.folder / "data")
        self._do("initdb", "-D", data, "-U", USER, f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "-N")
        self.start()
        self.create(DATABASE)

    def create(self, name: str) -> str:
        """One more database; gives its address."""
        self._do("createdb", "-h", HOST, "-p", str(self.port), "-U", USER, name)
        return f"postgresql://{USER}@{HOST}:{self.port}/{name}"

    def __exit__(self, *error: object) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server, or start it again."""
        place = ["-D", str(self.folder / "data"), "-p", str(self.port), "-h", HOST, "-k", str(self.folder)]
        # shared memory in files of the data folder: /dev/shm is small in containers, and keeps what a killed server had there
        command = [str(self.binaries / "postgres"), *place, "-F", "-c", "dynamic_shared_memory_type=mmap"]
        with (self.folder / "server.log").open("ab") as log:
            self._server = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **self._as)  # type: ignore[call-overload]
        wait_for(self.port, self._server)
        deadline = time.monotonic() + LIMIT_S
        while subprocess.run([self.binaries / "pg_isready", "-q", "-h", HOST, "-p", str(self.port)], check=False).returncode != 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def stop(self) -> None:
        """End the server as an administrator would, open connections or not."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(LIMIT_S)

    def _do(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.binaries / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env={**os.environ, "PGPASSWORD": PASSWORD},
            **self._as,  # type: ignore[call-overload]
        )
        assert done.returncode == 0, done.stderr


def wait_for(port: int, server: subprocess.Popen[bytes], path: str | None = None) -> None:
    """Until `port` takes connections, or answers 200 at `path`."""
    deadline = time.monotonic() + LIMIT_S
    while not _answers(port, path):
        assert server.poll() is None, f"the server on port {port} ended with {server.returncode}"
        assert time.monotonic() < deadline, f"nothing answers on port {port}"
        time.sleep(0.2)


def _answers(port: int, path: str | None) -> bool:
    try:
        if path is None:
            socket.create_connection((HOST, port), timeout=2).close()
            return True
        connection = http.client.HTTPConnection(HOST, port, timeout=2)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().status == http.client.OK
    except OSError:
        return False


@contextlib.contextmanager
def served(command: list[str], port: int, *, path: str | None = None, env: Mapping[str, str] | None = None) -> Iterator[None]:
    """A Python program that serves on `port` while it lasts."""
    command = [sys.executable, "-P", "-m", *command]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, stdout=quiet, stderr=quiet, env={**os.environ, **(env or {})}, start_new_session=True)
    try:
        wait_for(port, server, path)
        yield
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
