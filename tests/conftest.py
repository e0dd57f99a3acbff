"""Settings every test needs before torch, ray or mlflow is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# libgomp's spinning barriers make small operators tens of times slower when two processes share two cores
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_AUTH_MODE="disabled",
    MLFLOW_DISABLE_TELEMETRY="true",
    ORT_DISABLE_TELEMETRY="1",
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    AWS_EC2_METADATA_DISABLED="true",
    HF_HUB_OFFLINE="1",
    NO_COLOR="1",
)

import pytest

from tests.s3_server import S3Server, running

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


def shared_folder(name: str) -> Path:
    """`../shared/<name>`, or a skip that says so: a user's clone has no such folder."""
    path = (SHARED / name).resolve()
    if not path.is_dir():
        pytest.skip(f"{name}: the folder ../shared/{name} is not here")
    return path


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without GPU and TensorRT, whatever this one has."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setitem(sys.modules, "tensorrt", None)


@pytest.fixture(scope="session")
def parity_folder() -> Path:
    return shared_folder("parity")


@pytest.fixture(scope="session")
def real_data() -> Path:
    return shared_folder("data/real")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """An S3 store with the empty bucket `data`."""
    yield from running(monkeypatch, s3_server)
