"""Values out of a file, looked at against the types of the dataclass that they are to become."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_MOST = 1e300  # what is no number, or is infinite, is not below it


def check_fields(cls: type, values: Mapping[str, Any]) -> None:
    """Raises: TypeError, naming the field, for the first value that is not of its field's type."""
    hints = get_type_hints(cls)
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise TypeError(f"{name} is {str(value)[:40]!r}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, lists standing in for tuples as in JSON; numbers are finite."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in args)
    if origin is Literal:
        return isinstance(value, str) and value in args
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_fits(each, args[0]) for each in value)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and all(_fits(k, args[0]) and _fits(v, args[1]) for k, v in value.items())
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, NoneType if hint is None else hint)
