"""Describes a function tool to oss-harmony, which prints it as a TypeScript type. Knows nothing of messages.

oss-harmony prints `any` for what it does not know, so what JSON schemas of today use is put into words it knows: `$ref` is
replaced by what it refers to, `anyOf` becomes `oneOf`, `const` an `enum` of one.
"""

import json
import re
from typing import Any

from openai_harmony import ToolDescription, ToolNamespaceConfig

from ossia.common import vocabulary
from router.harmony.types import HarmonyError, Namespace, Tool

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_DEPTH = 24
"""Levels of schemas below which everything is `any`, and of other values; oss-harmony refuses 128 levels of JSON."""
_MAX_PARTS = 2048
"""Parts of a schema after which the rest is `any`: references can make a short schema endless."""
_MAX_CHARACTERS = 1 << 18
"""The same of its text, which references repeat: as long as a schema without them may be."""

Schema = dict[str, Any]


def describe(tool: Tool, field: str) -> ToolDescription:
    """The tool as oss-harmony takes it; `field` is its place in the request. Raises HarmonyError."""
    if not _NAME.fullmatch(tool.name):
        raise HarmonyError(f"{field}.name", "must be 1 to 64 letters, digits, underscores or dashes")
    try:
        parameters = None if tool.parameters is None else dict(tool.parameters)
        text = json.dumps((tool.description or "", parameters), ensure_ascii=False, allow_nan=False)
        description, parameters = json.loads(vocabulary.well_formed(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise HarmonyError(f"{field}.parameters", f"is not JSON that can be rendered: {error}") from error
    if vocabulary.has_long_run(text):
        raise HarmonyError(field, "has a run of 1,024 or more letters, spaces or punctuation")
    return ToolDescription.new(tool.name, description, parameters and _Reader(parameters).read(parameters, 0))


def namespaced(namespace: Namespace) -> ToolNamespaceConfig:
    """The same of a namespace. Raises HarmonyError."""
    if not _NAME.fullmatch(namespace.name):
        raise HarmonyError(namespace.name, "must be 1 to 64 letters, digits, underscores or dashes")
    description = vocabulary.well_formed(namespace.description or "")
    if vocabulary.has_long_run(description):
        raise HarmonyError(namespace.name, "is described by a run of 1,024 or more letters, spaces or punctuation")
    tools = [describe(tool, f"{namespace.name}[{index}]") for index, tool in enumerate(namespace.tools)]
    return ToolNamespaceConfig(name=namespace.name, description=description, tools=tools)


class _Reader:
    """Rewrites one schema, of which `root` is the whole."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._followed: list[str] = []
        self._parts = 0
        self._characters = 0

    def read(self, schema: object, depth: int) -> Schema:
        """The schema in oss-harmony's words; `{}`, which is printed `any`, where there are none."""
        self._parts += 1
        if not isinstance(schema, dict) or depth > _MAX_DEPTH or self._parts > _MAX_PARTS or self._characters > _MAX_CHARACTERS:
            return {}
        if isinstance(schema.get("$ref"), str):
            return self._follow(schema, schema["$ref"], depth)
        return self._children(_worded(schema, depth), depth + 1)

    def _follow(self, schema: Schema, reference: str, depth: int) -> Schema:
        """What `#/...` refers to, with what stands beside the reference; `{}` for one that leads to itself or nowhere."""
        found: object = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        if not isinstance(found, dict) or reference in self._followed:
            return {}
        self._followed.append(reference)
        result = self.read({**found, **{key: value for key, value in schema.items() if key != "$ref"}}, depth)
        self._followed.pop()
        return result

    def _children(self, schema: Schema, depth: int) -> Schema:
        self._characters += sum(map(len, schema))
        return {key: self._child(key, value, depth) for key, value in schema.items()}

    def _child(self, key: str, value: Any, depth: int) -> Any:
        match key, value:
            case "properties", dict():
                self._characters += sum(map(len, value))
                return {name: self.read(part, depth) for name, part in value.items()}
            case "items", _:
                return self.read(value, depth)
            case "oneOf", list():
                return [self.read(part, depth) for part in value]
            case _:
                kept = _pruned(value, _MAX_DEPTH)
                self._characters += len(
                    kept if isinstance(kept, str) else json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
                )
                return kept


def _pruned(value: Any, levels: int) -> Any:
    """A value that is no schema (`default`, `enum`), null below so many levels."""
    if isinstance(value, dict):
        return {key: _pruned(part, levels - 1) for key, part in value.items()} if levels else None
    if isinstance(value, list):
        return [_pruned(part, levels - 1) for part in value] if levels else None
    return value


def _worded(schema: Schema, depth: int) -> Schema:
    result = {key: value for key, value in schema.items() if key not in ("$defs", "definitions")}
    if result.get("anyOf"):
        result["oneOf"] = result.pop("anyOf")
    if "const" in result:
        result["enum"] = [result.pop("const")]
    if result.get("type") == "null":
        result["type"] = ["null"]
    values = result.get("enum")
    if isinstance(values, list) and "type" not in result and all(isinstance(value, str) for value in values):
        result["type"] = "string"
    if depth > 1 and isinstance(result.get("description"), str):
        result["description"] = " ".join(result["description"].splitlines())  # a comment of one line
    return result
