"""Names of a model's layers: patterns that choose some, and lists of them for people."""

import re
from collections.abc import Iterable, Mapping

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)|^\d+(?=\.)")


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern of `keep_bf16` (`*`: any text, `?`: any letter) is a layer's name or its end, after a dot."""
    expression = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch(rf"(.*\.)?{expression}", name) is not None


def listed(names: Iterable[str]) -> str:
    """All names, those that differ in a number alone together."""
    return ", ".join(dict.fromkeys(_NUMBER.sub("*", name) for name in names)) or "none"


def grouped(items: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names that differ in a number alone, and have the same value, on one line."""
    groups: dict[tuple[str, str], int] = {}
    for name, value in items.items():
        key = _NUMBER.sub("*", name) or "the model", value
        groups[key] = groups.get(key, 0) + 1
    return [(name if count == 1 else f"{name} ({count})", value) for (name, value), count in groups.items()]
