"""What a JSON document must look like, as data, and the check that it does."""

import math
from pathlib import Path

from ufp4 import InputError


def shown(value) -> str:
    """A value as a message quotes it: a line at most."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        text = type(value).__name__
    return text if len(text) <= 80 else text[:60] + " .. " + text[-12:]


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# A shape is one of these, or maybe(shape), a list [shape], a mapping {...: shape} of any keys, or an object
# {"key": shape, "key?": shape}, where "?" marks a key that may be missing. Other keys are not looked at.
TEXT = (lambda value: isinstance(value, str), "a string")
NUMBER = (_is_number, "a finite number")
WHOLE = (_is_whole, "a whole number")


def maybe(shape):
    """null too."""
    return ("maybe", shape)


def check(value, shape, where: str | Path) -> None:
    """Throws InputError naming the place, what was found and what was expected."""
    if isinstance(shape, tuple) and shape[0] == "maybe":
        if value is not None:
            check(value, shape[1], where)
    elif isinstance(shape, tuple):
        if not shape[0](value):
            raise InputError(f"{where} is {shown(value)}, expected {shape[1]}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise InputError(f"{where} is {shown(value)}, expected a list")
        for i, item in enumerate(value):
            check(item, shape[0], f"{where}[{i}]")
    else:
        if not isinstance(value, dict):
            raise InputError(f"{where} is {shown(value)}, expected an object")
        _check_object(value, shape, where)


def _check_object(value: dict, shape: dict, where: str | Path) -> None:
    join = "." if not isinstance(where, Path) else ": "
    if ... in shape:
        for key, item in value.items():
            check(item, shape[...], f"{where}{join}{shown(key)}")
        return
    for name, inner in shape.items():
        key = name.removesuffix("?")
        if key in value:
            check(value[key], inner, f"{where}{join}{key}")
        elif key == name:
            raise InputError(f"{where}: the key '{key}' is missing")
