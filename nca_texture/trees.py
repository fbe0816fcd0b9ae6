"""Trees of frozen values from plain dictionaries and back; each value is checked by its type."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, Union

Tree = TypeVar("Tree")

_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    tuple: "a list",
    Sequence: "a list",
    dict: "a table of options",
}


def to_dict(value: Any) -> Any:
    """Turn a recipe, or a part of one, into plain dictionaries; what is None is left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((each.name, getattr(value, each.name)) for each in dataclasses.fields(value))
        return {name: to_dict(inner) for name, inner in pairs if inner is not None}
    if isinstance(value, Mapping):
        return {name: to_dict(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [to_dict(inner) for inner in value]
    return value


def from_dict(kind: type[Tree], given: Mapping[str, Any], base: Tree | None = None) -> Tree:
    """Build a recipe, or a part of one, from plain dictionaries over ``base``.

    Raises ``ValueError`` for an unknown key, with the nearest name, and for a value of the wrong
    type, with where it stands.
    """
    return _tree(kind, given, base, "")


def as_hinted(hint: Any, value: Any, path: str) -> Any:
    """Return ``value`` as the type ``hint`` has it: a whole number where it asks for a number.

    Raises ``ValueError``, which names ``path``, for a value of another type.
    """
    return _value(hint, value, None, path)


def _tree(kind: Any, given: Any, base: Any, where: str) -> Any:
    if not isinstance(given, Mapping):
        raise ValueError(f"{where or 'the recipe'} is {given!r}; expected a table of settings")
    hints = typing.get_type_hints(kind)
    values = (
        {} if base is None else {f.name: getattr(base, f.name) for f in dataclasses.fields(kind)}
    )
    for key, value in given.items():
        path = f"{where}.{key}" if where else key
        if key not in hints:
            near = difflib.get_close_matches(key, hints, 1, 0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(hints)}"
            raise ValueError(f"there is no setting {path!r}; {hint}")
        values[key] = _value(hints[key], value, values.get(key), path)
    try:
        return kind(**values)
    except TypeError as reason:
        raise ValueError(f"{where or 'the recipe'} is not complete: {reason}") from reason


def _value(hint: Any, value: Any, base: Any, path: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return _tree(hint, value, base, path)
    if origin in (Union, types.UnionType):
        return _one_of(args, value, base, path)
    if origin is Literal:
        if value not in args:
            near = difflib.get_close_matches(str(value), args, 1, 0.5)
            guess = f"did you mean {near[0]!r}? " if near else ""
            raise ValueError(f"{path} is {value!r}; {guess}choose from {', '.join(args)}")
        return value
    if not _is_a(origin or hint, value):
        raise ValueError(f"{path} is {value!r}; expected {_kind(hint)}")
    if origin in (tuple, Sequence):
        inner = args if origin is tuple and args[1:] != (Ellipsis,) else args[:1] * len(value)
        if len(inner) != len(value):
            raise ValueError(f"{path} has {len(value)} values; expected {len(inner)}")
        return tuple(
            _value(each, item, None, f"{path}[{index}]")
            for index, (each, item) in enumerate(zip(inner, value, strict=True))
        )
    if origin is dict:
        return dict(value)
    return hint(value) if hint in (int, float) else value


def _one_of(hints: tuple[Any, ...], value: Any, base: Any, path: str) -> Any:
    """Take ``value`` as the first of ``hints`` that it can be; None is one of them or is not."""
    if value is None and type(None) in hints:
        return None
    hints = tuple(hint for hint in hints if hint is not type(None))
    for hint in hints:
        # A table, or a list, tells by itself what is wrong in it.
        if len(hints) == 1 or _is_a(typing.get_origin(hint) or hint, value):
            return _value(hint, value, base, path)
    raise ValueError(f"{path} is {value!r}; expected {' or '.join(map(_kind, hints))}")


def _is_a(kind: Any, value: Any) -> bool:
    """Tell whether ``value`` is of ``kind``, as TOML, JSON and numpy have such values."""
    if kind in (tuple, Sequence):
        return isinstance(value, list | tuple)
    if kind is dict:
        return isinstance(value, Mapping)
    if kind in (int, float):
        number = Integral if kind is int else Real
        return isinstance(value, number) and not isinstance(value, bool)
    return not isinstance(kind, type) or isinstance(value, kind)  # of no type: who knows


def _kind(hint: Any) -> str:
    kind = typing.get_origin(hint) or hint
    return _KINDS.get(kind) or f"a {kind.__name__}"
