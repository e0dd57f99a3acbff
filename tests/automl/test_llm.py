"""The searcher that asks a language model, against a server of ours that answers what a test lays out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from automl import llm
from automl.algorithms import complete_settings
from automl.engine import run_inline
from automl.proposals import Need, Proposal, Unavailable
from automl.snapshot import EndReason
from automl.study import Study
from automl.view import Observation
from search_spaces.errors import StudyError
from search_spaces.space import Parameter
from tests.automl.toy import LR, MOMENTUM, OPTIMIZER, SPACE, ToyRun, toy_config

GOOD: dict[str, Any] = {"values": {LR: 1e-3, OPTIMIZER: "AdamW"}, "why": "the middle of the valley"}


BROKEN_OFF = object()  # the server ends in the middle of its answer


class Server(HTTPServer):
    """Answers with `answers` in turn (a number is an HTTP error), the last one for ever, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[Any] = [GOOD]
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.keys.append(self.headers["Authorization"])
        answer = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        if isinstance(answer, int):
            self.send_error(answer)
            return
        if answer is BROKEN_OFF:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            return
        text = answer if isinstance(answer, str) else json.dumps(answer)
        body = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
        self.send_response(200 if self.path == "/v1/chat/completions" else 404)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(llm, "PAUSE_S", 0.0)
    for name in (llm.ENDPOINT, llm.MODEL, llm.KEY, llm.NVIDIA_KEY):
        monkeypatch.delenv(name, raising=False)
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def settings(server: Server) -> dict[str, Any]:
    return complete_settings({"llm_endpoint": server.address, "llm_model": "toy"}, searcher="llm", fidelity="full")


def asked(server: Server, *past: Observation) -> Proposal:
    return llm.ask_model(Need(seed=1, number=3, space=SPACE, startup=4, settings=settings(server)), past, "minimize")


def test_the_model_is_told_the_space_and_the_trials_and_its_values_are_taken(server: Server) -> None:
    past = (
        Observation(number=0, params={LR: 1e-4, OPTIMIZER: "AdamW"}, best_by_rung={1: 0.9, 9: 0.25}, complete=True),
        Observation(number=1, params={LR: 1e-2, OPTIMIZER: "AdamW"}, best_by_rung={}, infeasible=True),
    )
    proposal = asked(server, *past)
    assert (proposal.values, proposal.origin) == (GOOD["values"], {"by": "toy", "why": "the middle of the valley"})
    question = server.asked[0]["messages"][1]["content"]
    assert f"- {LR}: in [1e-06, 0.01] (log)" in question
    assert f"- {MOMENTUM}: in [0.5, 0.99]; active only when {OPTIMIZER} is SGD" in question
    assert '{"train.optim.lr": 0.0001, "train.optim.optimizer": "AdamW"} -> 0.25 after 9 epochs' in question
    assert "cannot be trained" in question
    assert (server.asked[0]["model"], server.asked[0]["temperature"], server.keys) == ("toy", 0.7, [None])


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("I would try a higher rate.", "no JSON object"),
        ({"lr": 1e-3}, 'no object "values"'),
        ({"values": {LR: 0.1, OPTIMIZER: "AdamW"}}, "must be in [1e-06, 0.01]"),
        ({"values": {LR: 1e-3}}, f"a value for {OPTIMIZER} is missing"),
        ({"values": {LR: 1e-3, OPTIMIZER: "AdamW", MOMENTUM: 0.9}}, "not active"),
        ({"values": {LR: 1e-3, OPTIMIZER: "AdamW", "train.rate": 1}}, "not in the search space"),
        ({"values": {LR: [1e-3], OPTIMIZER: "AdamW"}}, "must be in"),
        ({"values": {LR: True, OPTIMIZER: "AdamW"}}, "must be in"),
    ],
)
def test_what_cannot_be_trained_goes_back_to_the_model_with_the_reason(server: Server, answer: Any, complaint: str) -> None:
    server.answers = [answer, GOOD]
    assert asked(server).values == GOOD["values"]
    assert complaint in server.asked[1]["messages"][-1]["content"]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_goes_back_too(server: Server, number: float) -> None:
    size = Parameter(key="dataset.train_dataset.batch_size", kind="int", low=1, high=8, default=1)
    space = replace(SPACE, parameters=(*SPACE.parameters, size))
    good = {**GOOD["values"], size.key: 4.0}
    server.answers = [{"values": {**good, size.key: number}}, {"values": good}]
    proposal = llm.ask_model(Need(seed=1, number=3, space=space, startup=4, settings=settings(server)), (), "minimize")
    assert proposal.values == {**GOOD["values"], size.key: 4}


def test_an_answer_that_breaks_off_is_asked_for_again(server: Server) -> None:
    server.answers = [BROKEN_OFF, GOOD]
    assert asked(server).values == GOOD["values"]


def test_an_answer_inside_a_fence_is_understood(server: Server) -> None:
    server.answers = [f"Here it is:\n```json\n{json.dumps(GOOD)}\n```"]
    assert asked(server).values == GOOD["values"]


def test_a_fault_of_the_server_is_tried_again_a_few_times_and_never_random(server: Server) -> None:
    server.answers = [500, GOOD]
    assert asked(server).values == GOOD["values"]
    server.answers = [404]
    with pytest.raises(
        Unavailable, match="no proposal from the language model after 3 attempts: the endpoint gave no answer: HTTP Error 404"
    ):
        asked(server)
    assert len(server.asked) == 2 + llm.ATTEMPTS


def test_the_key_comes_from_the_environment_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(llm.KEY, "secret")
    asked(server)
    assert server.keys == ["Bearer secret"]
    assert "secret" not in json.dumps(server.asked)


def test_nvidias_key_goes_to_nvidia_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(llm.NVIDIA_KEY, "secret")
    asked(server)
    monkeypatch.setattr(llm, "NVIDIA", "127.0.0.1")
    asked(server)
    assert server.keys == [None, "Bearer secret"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "needs llm_endpoint, and nothing names it"),
        ({"llm_endpoint": "http://x"}, "needs llm_model"),
        ({"llm_endpoint": "file:///etc/passwd", "llm_model": "m"}, "must begin with http"),
        ({"llm_endpoint": "http://me:secret@x/v1", "llm_model": "m"}, "^llm_endpoint holds a user or a password, which would stand in"),
    ],
)
def test_without_an_endpoint_it_is_refused_before_anything_is_written(
    tmp_path: Path, server: Server, given: dict[str, str], message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        Study.create(tmp_path / "s", toy_config(searcher="llm", fidelity="full", settings=given))
    assert not (tmp_path / "s").exists()


def test_a_search_pauses_when_the_model_is_gone_and_goes_on_when_it_is_back(tmp_path: Path, server: Server) -> None:
    server.answers = [GOOD, 503]
    study = Study.create(tmp_path / "s", toy_config(searcher="llm", fidelity="full", trials=4, settings=settings(server)))
    snapshot = run_inline(study, run=ToyRun())
    study.close()
    assert snapshot.end is not None
    assert (snapshot.end.reason, len(snapshot.trials)) == (EndReason.INTERRUPTED, 2)
    assert "no proposal from the language model" in snapshot.end.message
    server.answers = [{"values": {LR: 2e-3, OPTIMIZER: "SGD", MOMENTUM: 0.9}}]
    study = Study.open(tmp_path / "s")
    snapshot = run_inline(study, run=ToyRun())
    study.close()
    assert snapshot.end is not None
    assert (snapshot.end.reason, len(snapshot.trials)) == (EndReason.EXHAUSTED, 4)
    assert snapshot.trial(3).values == {LR: 2e-3, OPTIMIZER: "SGD", MOMENTUM: 0.9}
