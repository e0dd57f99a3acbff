"""What a command line that cannot be parsed gets told: the rule, the value and the fix, as for every other mistake."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import typer

from search_spaces.errors import nearest

# pydantic's names of the checks that the options use: https://docs.pydantic.dev/latest/errors/validation_errors/
_RULES = {
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "int_parsing": "must be a whole number",
    "float_parsing": "must be a number",
}
# what other programs call the commands
FAMILIAR = {"test": "evaluate", "val": "evaluate", "predict": "inference", "dataset_convert": "convert", "trt": "gen_trt_engine"}


def usage_of(error: typer.TyperException, program: str) -> tuple[str, str]:
    """Message and hint for a command line of `program` that typer refused."""
    context = getattr(error, "ctx", None)
    command = program if context is None else str(context.command_path)
    option = getattr(error, "option_name", None)
    if option is not None and context is not None and error.message.startswith("No such option"):
        return _unknown_option(option, context, command)
    missing = re.match(r"No such command '(.*?)'", error.message)
    if missing is not None and context is not None:
        return _unknown_command(missing[1], context, command)
    if getattr(getattr(error, "param", None), "name", None) == "spec" and error.message == "":
        there = f"`{program} default_specs` writes some, a study has its own in promotion/spec.yaml"
        return f"{command} needs a spec", f"give a YAML file of any name: {command} -e spec.yaml; {there}"
    refused = _refused_value(error)
    if refused is not None:
        return refused, f"`{command} --help` shows how it is used"
    message, _, near = error.format_message().partition(" Did you mean ")
    suggestion = f"did you mean {near} " if near else ""
    return message.rstrip("."), f"{suggestion}`{command} --help` shows how it is used"


def _unknown_command(name: str, context: Any, program: str) -> tuple[str, str]:
    """The nearest command, and all that there are."""
    shown = [known for known, command in context.command.commands.items() if not command.hidden]
    near = FAMILIAR.get(name.replace("-", "_"), nearest(name.replace("-", "_"), list(context.command.commands)))
    suggestion = f"did you mean {near}? " if near in context.command.commands else ""
    return f"{program} has no command {name}", f"{suggestion}commands are {', '.join(shown)}"


def _unknown_option(option: str, context: Any, command: str) -> tuple[str, str]:
    """The nearest option, or how a value of the spec is written; typer's own guesses go far afield."""
    known = [name for parameter in context.command.params for name in parameter.opts if name.startswith("--")]
    takes_values = any(parameter.name == "overrides" for parameter in context.command.params)
    message = f"there is no option {option}"
    if takes_values and "." in option:
        return message, f"values of the spec are written without dashes: {option.lstrip('-')}=..."
    near = nearest(option, known)
    if near is not None:
        return message, f"did you mean {near}? `{command} --help` lists the options"
    values = "; values of the spec are written without dashes, train.num_epochs=3 for instance" if takes_values else ""
    return message, f"`{command} --help` lists the options{values}"


def _refused_value(error: typer.TyperException) -> str | None:
    """`--trials must be at least 1, but is 0`, or None for an error that is not about the value of a parameter."""
    parameter, checks = getattr(error, "param", None), getattr(error.__cause__, "errors", None)
    if parameter is None or not error.message:  # an empty message: the parameter is missing
        return None
    name = next((opt for opt in reversed(parameter.opts) if opt.startswith("-")), parameter.metavar or parameter.name)
    if checks is None:
        return f"{name}: {error.message.rstrip('.')}"
    first: Mapping[str, Any] = checks()[0]
    rule = _RULES.get(first["type"])
    if rule is not None:
        return f"{name} {rule.format(**first.get('ctx', {}))}, but is {first['input']}"
    said = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    _, listed, choices = said.partition(" is not one of ")
    if listed:
        return f"{name} must be one of {choices.replace(chr(39), '')}, but is {first['input']}"
    return f"{name}: {said}"
