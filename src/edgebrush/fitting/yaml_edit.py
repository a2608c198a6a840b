"""Changes fields in the text of a YAML file and keeps the rest of it, comments included."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import yaml

Path = tuple[str | int, ...]  # keys and indices, from the top


def edit(text: str, changes: Mapping[Path, Any], comments: Mapping[Path, str]) -> str:
    """The text with other values at ``changes``, each with its comment in a line above.

    A field that is missing is added to its mapping. Where this is not possible (a field of an alias changes other
    fields, too), the whole content is written anew, without the text's own comments.
    """
    wanted = yaml.safe_load(text)
    edited = text
    for path, value in changes.items():
        set_in(wanted, path, value)
        edited = _with_value(edited, path, value, comments.get(path, ""))
    if yaml.safe_load(edited) == wanted:
        return edited
    lines = [f"# {'.'.join(map(str, path))}: {comment}\n" for path, comment in comments.items()]
    return "".join(lines) + yaml.safe_dump(wanted, sort_keys=False, width=110)


def set_in(content: Any, path: Path, value: Any) -> None:
    """Set the value at a path in nested mappings and lists."""
    for key in path[:-1]:
        content[key] = copy.copy(content[key])  # an alias is the same object
        content = content[key]
    content[path[-1]] = value


def flow(value: Any) -> str:
    """A value as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def _with_value(text: str, path: Path, value: Any, comment: str) -> str:
    holder: Any = yaml.compose(text, yaml.SafeLoader)
    for key in path[:-1]:
        holder = _value_node(holder, key)
    node = _value_node(holder, path[-1])
    if node is None:
        return _with_field(text, holder, str(path[-1]), value, comment)
    start, end = node.start_mark.index, _end(node)
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:  # a block starts in the line after its key
        start = text.rindex(":", 0, start) + 1
        end = _end_of_line(text, end)
        return _commented(text[:start] + " " + flow(value) + text[end:], start, comment)
    return _commented(text[:start] + flow(value) + text[end:], start, comment)


def _with_field(text: str, holder: yaml.MappingNode, key: str, value: Any, comment: str) -> str:
    """The text with a new field at the end of a mapping."""
    end = _end(holder.value[-1][1])
    if holder.flow_style:
        return _commented(f"{text[:end]}, {key}: {flow(value)}{text[end:]}", end, comment)
    end = _end_of_line(text, end)
    line = f"\n{' ' * holder.value[0][0].start_mark.column}{key}: {flow(value)}"
    return _commented(text[:end] + line + text[end:], end + 1, comment)


def _commented(text: str, at: int, comment: str) -> str:
    """The text with a comment above the line that holds the character ``at``."""
    if not comment:
        return text
    start = text.rfind("\n", 0, at) + 1
    indent = " " * (len(text[start:]) - len(text[start:].lstrip(" ")))
    return f"{text[:start]}{indent}# {comment}\n{text[start:]}"


def _value_node(holder: yaml.Node, key: str | int) -> Any:
    """The node under a key or an index; None where the mapping has none."""
    if isinstance(holder, yaml.SequenceNode):
        return holder.value[int(key)]
    return next((value for name, value in holder.value if name.value == str(key)), None)


def _end(node: yaml.Node) -> int:
    """Where a node's text ends: of a block, that of its last value."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end
