"""An S3 store on 127.0.0.1 for tests: moto's server in a thread, with the settings that every S3 program finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SECRET = "very-secret-key"


class S3Server:
    """A running store with one bucket, `data`; `client` is s3fs."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        from trials.data.s3 import store

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        store.cache_clear()  # a client takes a second to make: one for all tests of a process

    def stop(self) -> None:
        self._server.stop()

    @property
    def client(self) -> Any:
        from trials.data.s3 import store

        return store()

    def upload(self, folder: Path, prefix: str) -> None:
        """Every file below `folder`, to s3://data/<prefix>/."""
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.client.pipe_file(f"data/{prefix}/{file.relative_to(folder)}", file.read_bytes())


def running(monkeypatch: pytest.MonkeyPatch, server: S3Server) -> Iterator[S3Server]:
    """`server`, empty but for its bucket, as the store of this process."""
    import requests

    settings = {"ENDPOINT_URL": server.endpoint, "ACCESS_KEY_ID": "tester", "SECRET_ACCESS_KEY": SECRET, "DEFAULT_REGION": "us-east-1"}
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    requests.post(f"{server.endpoint}/moto-api/reset", timeout=10)
    server.client.mkdir("data")
    yield server
