"""A Ray cluster by its address: whether it is there, what its nodes have room for, and whether each of them can do our work.

The driver runs on a node of the cluster (`ray start --address=HOST:PORT --num-cpus=0` makes one of any machine).  Nodes may join and
leave at any time, so room is asked for again and again.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from automl.mailbox import WorkOrder
from automl.worksite import Fault, worksite_fault
from search_spaces.errors import StudyError, UnsupportedError

CONNECT_S = 5.0  # of the plain connection; Ray itself would try for minutes
LOOK_S = 10.0  # between two looks at the head while a search runs
ANSWER_S = 120.0  # a node fetches the code and starts a process before it answers
NODE_LABEL = "ray.io/node-id"  # on every node, by itself
LOGS = "look at Ray's logs on it"
CORES_ON_CPU = 2.0  # of a trial without a GPU, where nobody says otherwise


@dataclass(frozen=True, kw_only=True)
class Node:
    """One machine of a cluster that is up: its address, its name for Ray, all it has."""

    host: str
    node_id: str
    cpus: float
    gpus: float

    def room(self, resources: Mapping[str, float]) -> int:
        """How many trials with `resources` fit on it."""
        have = {"CPU": self.cpus, "GPU": self.gpus}
        return min((math.floor(have[name] / wanted + 1e-9) for name, wanted in resources.items() if wanted > 0), default=0)


def check_address(address: str) -> None:
    """StudyError unless `address` is HOST:PORT and something listens there."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise StudyError(
            f"--address must be HOST:PORT of a Ray head, but is {address!r}", hint="`ray start --head` prints it, with port 6379"
        )
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StudyError(
            f"no Ray cluster answers at {address}: {reason}", hint="`ray status --address=HOST:PORT` shows a cluster"
        ) from error


class HeadWatch:
    """Whether the head of the cluster at `address` still answers; None watches nothing.  Asked often, it looks now and then.

    A driver without its head is ended by Ray itself, which waits for a minute and says nothing of the study.
    """

    def __init__(self, address: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._address, self._clock = address, clock
        self._looked_at, self._there = clock(), True

    def lost(self) -> str | None:
        """What is wrong, once each time that the head goes away."""
        if self._address is None or self._clock() - self._looked_at < LOOK_S:
            return None
        self._looked_at, before = self._clock(), self._there
        try:
            check_address(self._address)
        except StudyError as error:
            self._there = False
            return error.message if before else None
        self._there = True
        return None


@contextmanager
def joined(address: str, **settings: Any) -> Iterator[None]:
    """Connected to the cluster at `address`; StudyError when that cannot be.  `settings` go to `ray.init`."""
    check_address(address)
    try:
        ray.init(address=address, log_to_driver=False, **settings)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        first: BaseException = error
        while (earlier := first.__cause__ or first.__context__) is not None:  # Ray wraps the reason several times
            first = earlier
        reason = str(first).partition(" For more information")[0].partition("\n")[0]
        raise StudyError(
            f"the Ray cluster at {address} does not take this driver: {reason}",
            hint="run it on a node of the cluster, with the cluster's Ray, Python and token (docs/cluster.md)",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def nodes() -> tuple[Node, ...]:
    """The nodes that are up now, in order of their addresses."""
    found = [
        Node(host=node["NodeManagerAddress"], node_id=node["NodeID"], cpus=have.get("CPU", 0.0), gpus=have.get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
        for have in [node["Resources"]]
    ]
    return tuple(sorted(found, key=lambda node: (node.host, node.node_id)))


def look(address: str) -> tuple[Node, ...]:
    """The nodes of the cluster at `address`, without staying connected."""
    with joined(address, configure_logging=False):
        return nodes()


def room(present: Sequence[Node], resources: Mapping[str, float]) -> int:
    """How many trials fit on all nodes together."""
    return sum(node.room(resources) for node in present)


def trial_resources(present: Sequence[Node], *, gpus: float, cpus: float | None) -> dict[str, float]:
    """What one trial takes.

    Cores that nobody asked for: with GPUs, the share that belongs to them on the node with the fewest cores a GPU; else two, or all of
    the smallest node.  UnsupportedError when no node has room for it.
    """
    if cpus is None and gpus:
        cpus = min((node.cpus / node.gpus for node in present if node.gpus > 0 and node.cpus > 0), default=1.0) * gpus
        cpus = math.floor(cpus) if cpus >= 1.0 else cpus
    elif cpus is None:
        cpus = min([CORES_ON_CPU, *(node.cpus for node in present if node.cpus > 0)])
    resources = {"CPU": float(cpus), "GPU": float(gpus)}
    if not room(present, resources):
        raise UnsupportedError(
            f"no node of the cluster has room for a trial with {describe(resources)}: it has {describe_nodes(present)}",
            hint="lower --gpus-per-trial or automl.cpus_per_trial, or add a larger node",
        )
    return resources


def describe(resources: Mapping[str, float]) -> str:
    """`1 GPU and 4 cores`."""
    cores = f"{resources['CPU']:g} {'core' if resources['CPU'] == 1 else 'cores'}"
    return f"{resources['GPU']:g} GPU{'s' if resources['GPU'] > 1 else ''} and {cores}" if resources["GPU"] else cores


def describe_nodes(present: Sequence[Node]) -> str:
    """`3 nodes: 2 x 16 cores, 8 GPUs; 1 x 64 cores`."""
    kinds: dict[str, int] = {}
    for node in present:
        text = f"{node.cpus:g} cores" + (f", {node.gpus:g} GPUs" if node.gpus else "")
        kinds[text] = kinds.get(text, 0) + 1
    told = "; ".join(f"{count} x {text}" for text, count in kinds.items())
    return f"{len(present)} node{'s' if len(present) != 1 else ''}: {told}"


def faults_of(present: Sequence[Node], order: WorkOrder) -> dict[Node, Fault]:
    """Those of `present` that cannot work on the study of `order`: other code, or a study folder that they do not see.

    Each is asked by a process on it, which takes seconds the first time.
    """
    asked = {}
    for node in present:
        there = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
        asked[ray.remote(num_cpus=0, max_retries=0)(worksite_fault).options(scheduling_strategy=there).remote(order)] = node
    answered, silent = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_S) if asked else ([], [])
    faults = {}
    for answer in answered:
        try:
            fault: Fault | None = ray.get(answer)
        except ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:200]
            fault = Fault(message=f"no process could be started there: {reason}", hint=LOGS)
        if fault is not None:
            faults[asked[answer]] = fault
    return faults | {asked[one]: Fault(message=f"no answer within {ANSWER_S:g} s", hint=LOGS) for one in silent}


def anywhere_but(avoided: Collection[str]) -> list[dict[str, str]]:
    """What Ray's placement groups of one bundle take so as to keep off the nodes `avoided`: each has its name as a label."""
    return [{NODE_LABEL: f"!in({','.join(sorted(avoided))})"} if avoided else {}]


def here() -> NodeAffinitySchedulingStrategy:
    """Puts an actor beside the driver, with which it lives and dies."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
