"""Ray nodes as a user starts them (`ray start --block`), several on this machine, each of which can be killed like a machine that fails."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

from tests.scale.processes import alive, session_of, wait_for

LIMIT_S = 180.0  # for a start or an end, on a busy machine
STARTS = 3  # Ray gives up after 30 s, which is short there


class RayCluster:
    """A head and the nodes that joined it; a context manager that leaves no process.  `address` is what `--address` takes."""

    def __init__(self, *, cpus: int) -> None:
        with socket.socket() as probe:  # Ray's workers take ports from 10002 to 19999
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets in it have a length limit
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._cpus = cpus

    @property
    def address(self) -> str:
        """HOST:PORT of the head."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.push(self)
            self._start("--head", f"--port={self.port}", "--include-dashboard=false", f"--temp-dir={self.folder}", cpus=self._cpus)
            undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        for node in reversed(self._nodes):
            kill(node)
        shutil.rmtree(self.folder, ignore_errors=True)

    def join(self, *, cpus: int, gpus: int = 0, within: Sequence[str] = (), **settings: str) -> subprocess.Popen[bytes]:
        """One more node, started by the command `within`; `settings` stand in its environment.  Ray believes in its `gpus`."""
        place = f"--temp-dir={self.folder}/{len(self._nodes)}"  # each node unpacks the code anew, over what lies there
        return self._start(f"--address={self.address}", place, f"--num-gpus={gpus}", cpus=cpus, within=within, settings=settings)

    def _start(
        self, *arguments: str, cpus: int, within: Sequence[str] = (), settings: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        command = [*within, str(Path(sys.executable).with_name("ray")), "start", *arguments, f"--num-cpus={cpus}", "--block"]
        for _ in range(STARTS):
            log = self.folder / f"start-{len(self._nodes)}.log"
            with log.open("wb") as stream:
                node = subprocess.Popen(
                    [*command, "--object-store-memory=100000000"],
                    stdout=stream,
                    stderr=stream,
                    env={**os.environ, **(settings or {})},
                    start_new_session=True,
                )
            self._nodes.append(node)
            wait_for(lambda: b"Ray runtime started" in log.read_bytes() or has_ended(node), limit_s=LIMIT_S)  # noqa: B023  waited for here
            if not has_ended(node):
                return node
            kill(node)
            assert "timed out during startup" in log.read_text(), log.read_text()
        raise AssertionError(log.read_text())


def has_ended(node: subprocess.Popen[bytes]) -> bool:
    """Whether its first process has; its number is kept until `kill`."""
    return not alive(psutil.Process(node.pid))


def kill(node: subprocess.Popen[bytes]) -> None:
    """End a node and everything on it at once, as a power cut does; nothing of it runs when this returns."""
    if node.returncode is not None:  # done before, and its number may be another process's by now
        return

    def gone() -> bool:
        there = [process for process in psutil.process_iter() if session_of(process) == node.pid and alive(process)]
        for process in there:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return not there

    wait_for(gone, limit_s=LIMIT_S)
    node.wait()


def hidden(folder: Path) -> list[str]:
    """What starts a program that finds `folder` empty, as on a machine without that mount; for root."""
    return ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none "{folder}" && exec "$@"', "sh"]
