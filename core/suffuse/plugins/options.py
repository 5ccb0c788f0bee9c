"""Options: what a component may be told, and the sentences for what it was told wrongly.

Values come from TOML files and from the command line. `check` holds a table of them against a
pydantic model, and `from_signature` derives such a model from the parameters of a function or
class. Imported when first an option is checked: pydantic is not free.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from suffuse.errors import SuffuseError

__all__ = ["check", "from_signature"]

M = TypeVar("M", bound=BaseModel)

_CONFIG = ConfigDict(
    extra="forbid",
    arbitrary_types_allowed=True,
    protected_namespaces=(),
    ser_json_inf_nan="constants",
)

_EXPECTED = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "sequence": "a list",
    "dict": "a table of keys",
    "mapping": "a table of keys",
    "model": "a table of keys",
    "dataclass": "a table of keys",
    "path": "a path",
}


def check(model: type[M], data: Mapping[str, Any], where: str = "") -> M:
    """An instance of `model` made from `data`.

    Args:
        model: the pydantic model to hold `data` against.
        data: the values by key.
        where: the dotted path of `data` itself, put before every key in a message.

    Raises:
        SuffuseError: one sentence for each problem, with the dotted path of the key.

    >>> class Training(BaseModel, extra="forbid"):
    ...     steps: int = 2000
    >>> check(Training, {"steps": 5}, "training").steps
    5
    >>> check(Training, {"steps": "abc", "stesp": 5}, "training")
    Traceback (most recent call last):
    suffuse.errors.SuffuseError: unknown key 'training.stesp'; did you mean 'training.steps'?
    training.steps: expected an integer, given 'abc'
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise SuffuseError("\n".join(_sentences(model, data, where, error))) from None


_MISSING = {"dataset.path": ": name a file or a folder of yours by --data"}
"""What to do about keys that a command has an option for; of edits each is one."""


def _sentences(
    model: type[BaseModel], data: Mapping[str, Any], where: str, error: ValidationError
) -> Iterator[str]:
    expected: dict[tuple[str | int, ...], list[str]] = {}
    given: dict[tuple[str | int, ...], object] = {}
    for problem in error.errors(include_url=False):
        path, value = _place(data, problem["loc"])
        kind, context = problem["type"], problem.get("ctx", {})
        if kind == "missing":
            name = _dotted(where, (*path, problem["loc"][-1]))
            edit = name.removeprefix("edit.")
            advice = "" if edit == name else f": give it by --{edit.replace('_', '-')}"
            yield f"{name} is missing" + _MISSING.get(name, advice)
        elif kind == "extra_forbidden":
            yield _unknown_key(where, path, _keys(model, path[:-1]))
        elif kind in ("value_error", "assertion_error"):
            yield ": ".join(filter(None, [_dotted(where, path), str(context["error"])]))
        else:  # the members of a union complain one by one: collect them
            expected.setdefault(path, []).append(_expectation(kind, problem["msg"], context))
            given[path] = value
    for path, choices in expected.items():
        wanted = " or ".join(dict.fromkeys(choices))
        yield f"{_dotted(where, path) or 'this'}: expected {wanted}, given {_short(given[path])}"


def _place(data: Any, loc: Sequence[str | int]) -> tuple[tuple[str | int, ...], object]:
    """The part of pydantic's location that leads through `data`, and what lies there.

    What does not lead on names members of unions and the like, which mean nothing to a reader.
    """
    path: list[str | int] = []
    for part in loc:
        try:
            data = data[part]
        except (TypeError, LookupError):
            continue
        path.append(part)
    return tuple(path), data


def _dotted(where: str, path: Iterable[str | int]) -> str:
    """
    >>> _dotted("evaluators", (0, "name"))
    'evaluators.0.name'
    """
    return ".".join(map(str, filter(lambda part: part != "", (where, *path))))


def _unknown_key(where: str, path: tuple[str | int, ...], keys: Sequence[str]) -> str:
    sentence = f"unknown key '{_dotted(where, path)}'"
    near = difflib.get_close_matches(str(path[-1]), keys, n=1)
    if near:
        return f"{sentence}; did you mean '{_dotted(where, (*path[:-1], near[0]))}'?"
    if keys:
        return f"{sentence}; there are: {', '.join(keys)}"
    return f"{sentence}; there are none here"


def _keys(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that are known at `path` inside `model`."""
    models = [model]
    for part in path:
        if isinstance(part, str):
            fields = [m.model_fields[part] for m in models if part in m.model_fields]
            if fields:  # else a key of a mapping, whose values are the models at hand
                models = [found for field in fields for found in _models(field.annotation)]
    return sorted({field.alias or name for m in models for name, field in m.model_fields.items()})


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models(part)


def _expectation(kind: str, message: str, context: Mapping[str, Any]) -> str:
    if kind in ("literal_error", "enum"):
        return str(context["expected"])
    if kind == "too_short":
        return f"at least {context['min_length']} items"
    if kind == "too_long":
        return f"at most {context['max_length']} items"
    if kind == "string_pattern_mismatch":
        return f"text that matches {context['pattern']}"
    if kind.startswith(("greater_than", "less_than")):
        return message.replace("Input should be", "a number")
    known = _EXPECTED.get(kind.split("_")[0])
    if known and kind.endswith(("_type", "_parsing", "_from_float", "_str")):
        return known
    return message.removeprefix("Input should be ")


def _short(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def from_signature(target: Callable[..., object], context: Collection[str] = ()) -> type[BaseModel]:
    """A pydantic model of the parameters of `target` that a reader may set.

    Args:
        target: a function, a class or another callable.
        context: parameters that the core gives, which are no options.

    Raises:
        TypeError, NameError: a parameter cannot be an option; says why.

    >>> def solver(schedule, grid, *, order: int = 3): ...
    >>> from_signature(solver, context=("schedule", "grid"))(order="2")
    Options(order=2)
    """
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(target).parameters.items()
        if name not in context
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    annotations = _annotations(target, parameters)
    fields: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name == "name" or parameter.kind is parameter.POSITIONAL_ONLY:
            raise TypeError(f"its parameter {name!r} cannot be an option without a `config`")
        required = parameter.default is parameter.empty
        nullable = parameter.default is None
        annotation = annotations[name] | None if nullable else annotations[name]
        fields[name] = (annotation, ... if required else parameter.default)
    return create_model("Options", __config__=_CONFIG, **fields)


def _annotations(target: Any, parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """The annotations of these parameters alone, evaluated.

    The others, which the core gives, may name types that are imported for the type checker only.
    """
    while isinstance(target, functools.partial):
        target = target.func
    if inspect.isclass(target):
        target = target.__init__
    elif not inspect.isroutine(target):
        target = type(target).__call__
    names = getattr(inspect.unwrap(target), "__globals__", {})

    def stub() -> None: ...

    stub.__annotations__ = {
        name: Any if parameter.annotation is parameter.empty else parameter.annotation
        for name, parameter in parameters.items()
    }
    return typing.get_type_hints(stub, globalns=names, include_extras=True)
