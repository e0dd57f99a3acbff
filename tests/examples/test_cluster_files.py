"""The files for SLURM, Kubernetes and containers: they parse, name what is there, carry no password and open no door by themselves."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.test_pages import parsed

ROOT = Path(__file__).resolve().parents[2]
SLURM = ROOT / "examples" / "cluster" / "slurm.sh"
RAYJOB = ROOT / "examples" / "cluster" / "rayjob.yaml"
COMPOSE = ROOT / "containers" / "compose.yaml"
DOCKERFILE = ROOT / "containers" / "Dockerfile"


def our_commands(text: str) -> Iterator[list[str]]:
    """Every `automl` command line in `text`, its variables filled in."""
    filled = re.sub(r'"?\$\{?\w+\}?(:\$\w+)?"?', "host:6379", text.replace("\\\n", " "))
    for found in re.findall(r"automl (?:run|resume) [^;&\n]+", filled):
        yield ["automl", *shlex.split(found)[1:]]


@pytest.mark.parametrize("page", [SLURM, RAYJOB], ids=["slurm", "rayjob"])
def test_every_command_parses(page: Path) -> None:
    text = page.read_text() if page is SLURM else yaml.safe_load(page.read_text())["spec"]["entrypoint"].replace("'", "")
    commands = list(our_commands(text))
    assert [words[1] for words in commands] == ["resume", "run"]
    assert [parsed(words) for words in commands] == [None, None]
    assert all("--address" in words and "--yes" in words for words in commands)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_job_script_is_bash_and_sets_a_token_for_ray() -> None:
    subprocess.run(["bash", "-n", SLURM], check=True)
    text = SLURM.read_text()
    assert re.search(r"^RAY_AUTH_TOKEN=\$\(python3", text, re.MULTILINE)
    assert text.index("export RAY_AUTH_MODE=token") < text.index("ray start")


def dry_run(tmp_path: Path, driver: str) -> subprocess.CompletedProcess[str]:
    """The job script with stand-ins for SLURM and Ray, and `driver` in place of `automl`, once both nodes are started."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    stand_ins = {
        "scontrol": f'case "$*" in show*) printf "one\\ntwo\\n";; *) echo "$*" > {tmp_path}/scontrol.txt;; esac',
        "hostname": "echo fe80::1 10.0.0.1 192.168.0.1",
        "srun": f'echo "$*" >> {tmp_path}/srun.txt; case "$*" in *ray*start*) exec sleep 20;; esac',
        "ray": "true",
        "automl": f'until [ "$(wc -l < {tmp_path}/srun.txt)" -ge 2 ]; do sleep 0.05; done; echo "$*" > {tmp_path}/automl.txt; {driver}',
        "python3": 'case "$*" in *secrets*) echo token;; *) echo 2;; esac',
    }
    for name, body in stand_ins.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (bin_folder / name).chmod(0o755)
    environment = {
        **{"PATH": f"{bin_folder}:/usr/bin:/bin", "HOME": str(tmp_path), "VENV": str(tmp_path), "RESULTS": str(tmp_path / "r")},
        **{"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "[one-two]", "SLURM_CPUS_PER_TASK": "4", "SLURM_GPUS_ON_NODE": "2"},
    }
    return subprocess.run(["bash", SLURM], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)


def test_a_dry_run_of_the_job_script(tmp_path: Path) -> None:
    """Who is started where, with all cores of its node, and that the driver's exit code is the job's."""
    done = dry_run(tmp_path, "exit 3")
    assert (done.returncode, done.stderr) == (3, "")
    *starts, tidy = (tmp_path / "srun.txt").read_text().splitlines()
    head, worker = sorted(starts)  # side by side
    common = "--num-cpus=4 --num-gpus=2 --object-store-memory=1000000000 --block"
    assert "--nodelist=one --overlap --cpus-per-task=4" in head
    assert f"ray start {common} --head --node-ip-address=10.0.0.1 --port=20007 --temp-dir=/tmp/ray-7" in head
    assert "--nodelist=two --overlap --cpus-per-task=4" in worker
    assert worker.endswith(f"ray start {common} --address=10.0.0.1:20007")
    assert tidy == "--nodes=2 --ntasks-per-node=1 --overlap rm -rf /tmp/ray-7"
    assert (tmp_path / "automl.txt").read_text().startswith("run --skill depth_net_stereo")
    assert not (tmp_path / "scontrol.txt").exists()


@pytest.mark.parametrize(("told", "queued"), [("USR1", True), ("TERM", False)])
def test_a_job_whose_time_is_over_is_queued_again_and_one_that_was_cancelled_is_not(tmp_path: Path, told: str, queued: bool) -> None:
    pause = "trap 'exit 130' TERM; kill -" + told + " $PPID; for _ in $(seq 100); do sleep 0.1; done"
    done = dry_run(tmp_path, pause)
    assert done.returncode == 130, done.stderr
    assert (tmp_path / "scontrol.txt").exists() is queued


def pods() -> list[dict[str, Any]]:
    cluster = yaml.safe_load(RAYJOB.read_text())["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"]["template"]["spec"], *(group["template"]["spec"] for group in cluster["workerGroupSpecs"])]


def test_the_rayjob_has_the_shape_of_its_kind() -> None:
    job = yaml.safe_load(RAYJOB.read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"  # trials run on workers alone
    for group in cluster["workerGroupSpecs"]:
        assert 0 < group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_all_pods_share_folders_user_and_image() -> None:
    head, *workers = pods()
    for pod in (head, *workers):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        for resources in (pod["containers"][0]["resources"],):
            assert resources["limits"] == resources["requests"]
    for worker in workers:
        assert {"key": "nvidia.com/gpu", "operator": "Exists"} in worker["tolerations"]
        assert worker["volumes"] == head["volumes"]
        assert worker["containers"][0]["image"] == head["containers"][0]["image"]


def test_ray_of_the_manifest_is_the_one_that_is_installed() -> None:
    ranges = re.search(r"ray\[tune\]>=([\d.]+),<", (ROOT / "setup.cfg").read_text())
    assert ranges is not None
    assert yaml.safe_load(RAYJOB.read_text())["spec"]["rayClusterSpec"]["rayVersion"].startswith(ranges[1])
    assert f"ray[default]>={ranges[1]}" in DOCKERFILE.read_text()


def test_services_listen_on_this_machine_and_hold_no_password() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    for name, service in services.items():
        assert ":" in service["image"] or service["image"] == "depth-automl", name
        assert all(port.startswith("${SERVICES_HOST:-127.0.0.1}:") for port in service.get("ports", ()))
        for key, value in service.get("environment", {}).items():
            if any(word in key for word in ("PASSWORD", "SECRET", "ACCESS_KEY")):
                assert re.fullmatch(r"\$\{\w+:\?put it into \.env\}", value), f"{name}: {key}"
    filled = dict(
        line.split("=", 1) for line in (ROOT / "containers" / "services.env").read_text().splitlines() if "=" in line and line[0] != "#"
    )
    asked = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    assert set(filled) == asked
    assert all(not filled[name] for name in asked if name.endswith(("PASSWORD", "KEY")))


def test_studies_and_mlflow_have_databases_of_their_own() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    assert compose["services"]["postgres"]["environment"]["POSTGRES_DB"] == "studies"
    assert compose["configs"]["databases"]["content"] == "CREATE DATABASE mlflow;"
    assert any(word.endswith("/mlflow") for word in compose["services"]["mlflow"]["command"] if "backend-store-uri" in word)


def test_the_image_takes_what_is_there_and_runs_as_nobody() -> None:
    lines = DOCKERFILE.read_text().replace("\\\n", " ").splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert all((ROOT / name).exists() for name in copied)
    let_in = {
        line.removeprefix("!") for line in (DOCKERFILE.with_name("Dockerfile.dockerignore")).read_text().splitlines() if line[0] == "!"
    }
    assert let_in == set(copied)
    assert [line for line in lines if line.startswith("USER")] == ["USER 65534:65534"]
    extras = re.search(r"'\.\[([\w,]+)\]'", DOCKERFILE.read_text())
    assert extras is not None
    assert all(f"\n{name} =\n" in (ROOT / "setup.cfg").read_text() for name in extras[1].split(","))
