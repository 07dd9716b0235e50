"""YAML files, read safely; a key that stands twice with two values is an error."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from rllib_stpn.errors import UsageError


def parse(path: Path, text: str) -> tuple[Any, list[str]]:
    """What a YAML file says, and a note for each key that stands twice with the same value.

    Args:
        path: The file, for errors and notes.
        text: Its text.

    Raises:
        UsageError: It is no YAML, or a key stands twice with two values; YAML would take the last without a word.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, []
        notes = [_twice(path, *pair) for pair in _repeated(node, set())]
        return loader.construct_document(node), notes
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UsageError(f"{path}{place}: not YAML: {getattr(error, 'problem', None) or error}") from None
    finally:
        loader.dispose()


def _repeated(node: yaml.Node, seen: set[int]) -> Iterator[tuple[Any, Any]]:
    """Pairs ``((key, value), (key, value))`` of nodes for each key that stands twice in one mapping."""
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for below in node.value:
            yield from _repeated(below, seen)
    if isinstance(node, yaml.MappingNode):
        first: dict[tuple[str, str], Any] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in first:
                    yield first[key.tag, key.value], (key, value)
                first[key.tag, key.value] = (key, value)
            yield from _repeated(value, seen)


def _twice(path: Path, first: Any, second: Any) -> str:
    key = first[0].value
    lines = f"lines {first[0].start_mark.line + 1} and {second[0].start_mark.line + 1}"
    if _plain(first[1]) != _plain(second[1]):
        raise UsageError(f"{path}: {key!r} stands twice, in {lines}, and with two values")
    return f"{path}: {key} stands twice, in {lines}, with the same value"


def _plain(node: yaml.Node) -> Any:
    """A node's values, which compare equal whatever their quotes."""
    if isinstance(node, yaml.MappingNode):
        return [(_plain(key), _plain(value)) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [_plain(below) for below in node.value]
    return node.tag, node.value
