"""YAML read as a tree of nodes, strictly: each error names file and line.

Nodes and never objects: nothing in a file can construct anything. What this does not guarantee:
that a value means anything; whoever reads it says what a key may hold.

JSON is read by the same code: it is YAML once its tabs are spaces.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import IO, TYPE_CHECKING

from electctl.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from yaml.nodes import Node

_MAX_BYTES = 1_000_000
#: PyYAML's names of its node classes; the classes would need the import at the top.
_SCALAR, _SEQUENCE, _MAPPING = "ScalarNode", "SequenceNode", "MappingNode"


def read_bytes(path: Path, what: str) -> bytes:
    """The content of a small file. Raises ConfigError."""
    try:
        with path.open("rb") as stream:
            return read_stream(stream, f"{what} {path}")
    except OSError as error:
        raise ConfigError(
            f"{what} {path} cannot be read: {error.strerror}", hint="is the path right?"
        ) from None


def read_stream(stream: IO[bytes], what: str) -> bytes:
    """All of a small stream. Raises ConfigError, OSError."""
    raw = stream.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise ConfigError(f"{what} is over 1 MB", hint="is it the right file?")
    return raw


def compose(raw: bytes, name: str, *, hint: str) -> Node | None:
    """The root node of a YAML or JSON text; None if it is empty.

    Raises ConfigError; ``hint`` says where an example is.
    """
    import yaml

    try:
        text = raw.decode("utf-8")
        if text.lstrip().startswith("{"):
            text = text.replace("\t", " ")  # JSON may be indented by tabs, YAML may not
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name}:{line}: this is not UTF-8", hint="save it as UTF-8") from None
    except yaml.reader.ReaderError as error:
        raise ConfigError(
            f"{name}: it has a character that YAML forbids (U+{error.character:04X})",
            hint="is it the right file?",
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        # Only the problem: the snippet that PyYAML quotes could hold a password.
        raise ConfigError(f"{name}:{line}: this is not YAML: {error.problem}", hint=hint) from None
    except RecursionError:
        raise ConfigError(f"{name} is nested too deeply", hint="two levels") from None


class Reader:
    """Takes nodes apart. Raises ConfigError with file and line.

    ``example`` is a line that shows what a mapping of this file looks like.
    """

    def __init__(self, name: str, example: str) -> None:
        self.name = name
        self._example = example

    def pairs(self, node: Node, what: str) -> list[tuple[str, Node]]:
        """The keys of a mapping, each once, with their values."""
        if not is_mapping(node):
            raise self.error(node, f"{what} must hold key: value lines", self._example)
        seen: dict[str, int] = {}
        pairs = []
        for key, child in node.value:
            line = key.start_mark.line + 1
            if not is_scalar(key) or is_null(key):
                raise self.error(key, f"a key in {what} is not a text", self._example)
            name = str(key.value)
            if name in seen:
                raise self.error(
                    key, f"{name!r} is given twice in {what}", f"it is also in line {seen[name]}"
                )
            seen[name] = line
            pairs.append((name, child))
        return pairs

    def entries(self, node: Node, what: str, known: Sequence[str]) -> dict[str, Node]:
        """The same, of a mapping whose keys are all known."""
        entries = {}
        for key, child in self.pairs(node, what):
            if key not in known:
                raise self.error(
                    key_node(node, key),
                    f"unknown key {key!r} in {what}",
                    nearest(key.replace("-", "_"), known),
                )
            entries[key] = child
        return entries

    def answer(self, key: str, node: Node) -> str:
        """An answer to a question as it is written; a YAML ``true`` is ``yes``."""
        if not is_scalar(node, "str", "int", "float", "bool") or not node.value:
            raise self.error(node, f"{key} must be one answer", f"{key}: yes")
        text = str(node.value)
        if is_scalar(node, "bool"):
            return {"true": "yes", "false": "no"}.get(text.lower(), text)
        return text

    def error(self, node: Node, cause: str, hint: str | None) -> ConfigError:
        """The error for something at this node."""
        return ConfigError(f"{self.place(node)}: {cause}", hint=hint)

    def place(self, node: Node) -> str:
        """File and line."""
        return f"{self.name}:{node.start_mark.line + 1}"


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint: the known name that is nearest, or all of them."""
    near = get_close_matches(word, known, 1)
    return f"did you mean {near[0]}?" if near else f"it knows {', '.join(sorted(known))}"


def key_node(mapping: Node, key: str) -> Node:
    """Where a key stands, which may be lines above its value."""
    found: Node = next(node for node, _ in mapping.value if node.value == key)
    return found


def is_scalar(node: Node, *kinds: str) -> bool:
    """Whether it is one value; of one of these kinds (``str``, ``int``, …), if any is named."""
    if type(node).__name__ != _SCALAR:
        return False
    return not kinds or node.tag.removeprefix("tag:yaml.org,2002:") in kinds


def is_null(node: Node) -> bool:
    """Whether there is nothing."""
    return is_scalar(node, "null")


def is_sequence(node: Node) -> bool:
    """Whether it is a list."""
    return type(node).__name__ == _SEQUENCE


def is_mapping(node: Node) -> bool:
    """Whether it has keys."""
    return type(node).__name__ == _MAPPING
