"""The searcher `llm`: a language model reads the space and the trials so far and proposes the next configuration.

An optional extra.  It speaks the chat protocol that most servers understand (POST ENDPOINT/chat/completions) and only with the endpoint
that the user names; without one it is refused, and when the model gives nothing that can be used, the search pauses and can be resumed.
It never falls back on random draws, as TAO's `llm` does without a word.  The same history may get another answer: this is the
one searcher that does not repeat itself; what it answered is in the record.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from automl.proposals import Need, Proposal, Unavailable
from automl.view import Observation
from search_spaces.errors import SpecError, StudyError
from search_spaces.objective import Direction
from search_spaces.space import Parameter, SearchSpace, Value

ENDPOINT, MODEL, KEY, NVIDIA_KEY = "AUTOML_LLM_ENDPOINT", "AUTOML_LLM_MODEL", "AUTOML_LLM_API_KEY", "NVIDIA_API_KEY"
NVIDIA = ".nvidia.com"  # the only hosts that NVIDIA's key is sent to
ATTEMPTS, TIMEOUT_S, PAUSE_S = 3, 60.0, 1.0
_SHOWN = 60  # trials, the best ones; a prompt has its limits
_TASK = (
    "You tune the hyperparameters of a neural network that estimates depth from images. Propose the next configuration to train. "
    'Answer with one JSON object and nothing else: {"values": {...}, "why": "one sentence"}. '
    "Give a value for every parameter that is active, inside its range, and for no other."
)


def check_endpoint(space: SearchSpace, settings: Mapping[str, Any]) -> None:
    """StudyError unless an endpoint and a model are named."""
    del space
    for name, variable in (("llm_endpoint", ENDPOINT), ("llm_model", MODEL)):
        if not _named(settings, name, variable):
            raise StudyError(
                f"the searcher llm needs {name}, and nothing names it",
                hint=f"set it in the settings or in {variable}, with the key in {KEY}; or use another algorithm",
            )
    endpoint = _named(settings, "llm_endpoint", ENDPOINT)
    if not endpoint.startswith(("http://", "https://")):
        raise StudyError(
            f"llm_endpoint must begin with http:// or https://, but is {endpoint!r}", hint="for example http://127.0.0.1:8000/v1"
        )
    if "@" in endpoint.partition("://")[2].partition("/")[0]:
        raise StudyError(
            "llm_endpoint holds a user or a password, which would stand in the records of the study", hint=f"set {KEY} instead"
        )


def ask_model(need: Need, observations: Sequence[Observation], direction: Direction) -> Proposal:
    """The model's proposal; Unavailable after so many answers that nobody can use, each of which it was told."""
    messages = [{"role": "system", "content": _TASK}, {"role": "user", "content": _question(need.space, observations, direction)}]
    refused = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_S * attempt)
        try:
            answer = _chat(messages, need.settings)
        except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError, TypeError) as error:
            refused = f"the endpoint gave no answer: {error}"
            continue
        try:
            values, why = _read(answer, need)
        except SpecError as error:
            refused = error.message
            messages += [
                {"role": "assistant", "content": answer},
                {"role": "user", "content": f"That cannot be trained: {refused}. Again."},
            ]
            continue
        return Proposal(values=values, origin={"by": _named(need.settings, "llm_model", MODEL), "why": why})
    raise Unavailable(f"no proposal from the language model after {ATTEMPTS} attempts: {refused}", hint="resume when it answers again")


def _question(space: SearchSpace, observations: Sequence[Observation], direction: Direction) -> str:
    """Space and history in words."""
    sign = 1.0 if direction == "minimize" else -1.0
    lines = ["Parameters:", *(_line(parameter) for parameter in space.parameters), ""]
    known = [one for one in observations if one.best_by_rung]
    known.sort(key=lambda one: (-max(one.best_by_rung), sign * one.best_by_rung[max(one.best_by_rung)]))
    better = "less" if direction == "minimize" else "more"
    lines.append(f"Trials so far, those trained longest first ({better} is better):" if known else "No trial has been trained yet.")
    for one in known[:_SHOWN]:
        epochs = max(one.best_by_rung)
        lines.append(f"{json.dumps(dict(one.params))} -> {one.best_by_rung[epochs]:.6g} after {epochs} epochs")
    lines += [f"{json.dumps(dict(one.params))} -> cannot be trained (memory, NaN or collapse)" for one in observations if one.infeasible]
    lines += [f"{json.dumps(dict(one.params))} -> is being trained" for one in observations if one.running and not one.best_by_rung]
    return "\n".join(lines)


def _line(parameter: Parameter) -> str:
    condition = parameter.condition
    only = "" if condition is None else f"; active only when {condition.key} is {' or '.join(map(str, condition.values))}"
    return f"- {parameter.key}: {parameter.describe()}{only}{f'; {parameter.why}' if parameter.why else ''}"


def _chat(messages: Sequence[Mapping[str, str]], settings: Mapping[str, Any]) -> str:
    """The text of one answer; OSError and its kin where there is none."""
    body = {
        "model": _named(settings, "llm_model", MODEL),
        "messages": list(messages),
        "temperature": settings["temperature"],
        "max_tokens": settings["max_tokens"],
    }
    address = _named(settings, "llm_endpoint", ENDPOINT).rstrip("/") + "/chat/completions"
    request = urllib.request.Request(address, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    key = os.environ.get(KEY) or (os.environ.get(NVIDIA_KEY) if (urlsplit(address).hostname or "").endswith(NVIDIA) else None)
    if key:
        request.add_unredirected_header("Authorization", f"Bearer {key}")  # for this host alone
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        text = json.load(response)["choices"][0]["message"]["content"]
    if not isinstance(text, str):
        raise TypeError("the answer holds no text")
    return text


def _read(answer: str, need: Need) -> tuple[dict[str, Value], str]:
    """Values and reason of an answer; SpecError says what is wrong with it."""
    fenced = re.search(r"\{.*\}", answer, re.DOTALL)
    try:
        data = json.loads(fenced.group() if fenced else answer)
    except ValueError as error:
        raise SpecError(f"the answer is no JSON object ({error})") from error
    values = data.get("values") if isinstance(data, dict) else None
    if not isinstance(values, dict):
        raise SpecError('the answer has no object "values"')
    chosen = {key: _typed(need.space, key, value) for key, value in values.items()}
    need.space.validate(chosen)
    if not need.allowed(chosen):
        raise SpecError("a rule of the spec forbids this combination")
    return chosen, str(data.get("why", ""))[:300]


def _typed(space: SearchSpace, key: str, value: Any) -> Value:
    """A number as its parameter has it: models write 8.0 for 8 and 1 for 1.0."""
    kind = space.parameter(key).kind
    if isinstance(value, bool) or not isinstance(value, int | float):
        if not isinstance(value, bool | str):
            raise SpecError(f"{key} must be {space.parameter(key).describe()}, but is {value!r}")
        return value
    if kind == "int" and math.isfinite(value) and value == int(value):
        return int(value)
    return float(value) if kind == "float" else value


def _named(settings: Mapping[str, Any], name: str, variable: str) -> str:
    return str(settings.get(name) or os.environ.get(variable) or "")
