"""The OpenAPI document as one page for people: no script, nothing from elsewhere. Knows the document and nothing else."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from router.gateway.errors import dumps

Schema = Mapping[str, Any]
STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: light-dark(#0550ae, #79b8ff) }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere }
code { font: 0.9em ui-monospace, monospace }
a { color: var(--link); text-decoration: none }
a:hover, a:focus { text-decoration: underline }
h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem }
h3 { margin: 1.5rem 0 0.25rem }
p { margin: 0.25rem 0 }
td:first-child { white-space: nowrap }
nav ul { columns: 20rem; padding-left: 1.2rem }
table { border-collapse: collapse; width: 100%; margin: 0.5rem 0 }
th, td { text-align: left; vertical-align: top; padding: 0.2rem 1rem 0.2rem 0; border-bottom: 1px solid var(--line) }
b { background: var(--soft); border-radius: 0.3rem; padding: 0 0.4rem; font-weight: 600 }
"""
_BOUNDS = (
    ("minimum", "at least"),
    ("exclusiveMinimum", "above"),
    ("maximum", "at most"),
    ("exclusiveMaximum", "below"),
    ("minItems", "at least"),
    ("maxItems", "at most"),
    ("minLength", "length at least"),
    ("maxLength", "length at most"),
)


def manual(document: Mapping[str, Any]) -> str:
    """The page, as HTML."""
    operations = [(path, method, told) for path, methods in document["paths"].items() for method, told in methods.items()]
    schemas: Mapping[str, Schema] = document["components"]["schemas"]
    tags = dict.fromkeys(told["tags"][0] for _, _, told in operations)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>ossia: the HTTP API</title><style>{STYLE}</style><h1>The HTTP API</h1>",
        f"<p>ossia {escape(document['info']['version'])}. For machines: <a href=openapi.json>openapi.json</a>.",
        "<nav>",
    ]
    for tag in tags:
        parts += [
            f"<h2>{escape(tag)}</h2><ul>",
            *(_entry(*found) for found in operations if found[2]["tags"][0] == tag),
            "</ul>",
        ]
    parts.append("</nav><main>")
    parts += [_article(*found, schemas) for found in operations]
    parts.append("<h2>Types</h2>")
    parts += [f"<h3 id='{escape(name)}'>{escape(name)}</h3>{_object(schema)}" for name, schema in sorted(schemas.items())]
    return "".join([*parts, "</main></html>"])


def _entry(path: str, method: str, told: Schema) -> str:
    return f"<li><a href='#{told['operationId']}'><code>{method.upper()} {escape(path)}</code></a>"


def _article(path: str, method: str, told: Schema, schemas: Mapping[str, Schema]) -> str:
    parts = [
        f"<article><h3 id='{told['operationId']}'><b>{method.upper()}</b> <code>{escape(path)}</code></h3>",
        f"<p>{escape(told['summary'])}",
        *(f"<p>{escape(text)}" for text in told.get("description", "").split("\n\n") if text),
    ]
    if parameters := told.get("parameters"):
        rows = (_row(given["name"], given["schema"], given["required"], given["in"]) for given in parameters)
        parts.append(f"<table>{''.join(rows)}</table>")
    for media, content in told.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<p>Body, <code>{media}</code>: {_type(content['schema'])}")
        parts.append(_object(_followed(content["schema"], schemas)))
    for status, response in told["responses"].items():
        for media, content in response["content"].items():
            parts.append(f"<p>{_status(status)}, <code>{media}</code>: {_type(content['schema'])}")
    return "".join([*parts, "</article>"])


def _status(status: str) -> str:
    return "Any error" if status == "default" else status


def _followed(schema: Schema, schemas: Mapping[str, Schema]) -> Schema:
    return schemas[_name(schema["$ref"])] if "$ref" in schema else schema


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]


def _object(schema: Schema) -> str:
    """What it is, and its fields if it has any."""
    told = "".join(f"<p>{escape(text)}" for text in schema.get("description", "").split("\n\n") if text)
    if "properties" not in schema:
        return f"{told}<p>{_type(schema)}"
    required = schema.get("required", ())
    rows = (_row(name, field, name in required, field.get("description", "")) for name, field in schema["properties"].items())
    return f"{told}<table>{''.join(rows)}</table>"


def _row(name: str, schema: Schema, required: bool, note: str) -> str:
    needed = ", required" if required else ""
    return f"<tr><td><code>{escape(name)}</code><td>{_type(schema)}{needed}<td>{escape(note)}"


def _type(schema: Schema) -> str:
    """In words, with links to types that have names."""
    if "$ref" in schema:
        name = escape(_name(schema["$ref"]))
        return f"<a href='#{name}'>{name}</a>"
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " or ".join(f"<code>{escape(dumps(value))}</code>" for value in values)
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(_type(part) for part in schema[union])
    return " ".join([_plain(schema), *_bounds(schema)])


def _plain(schema: Schema) -> str:
    match schema.get("type"):
        case "array":
            return f"list of {_type(schema.get('items', {}))}"
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return f"object of {_type(schema['additionalProperties'])}"
        case str(kind):
            return kind
        case _:
            return "anything"


def _bounds(schema: Schema) -> Iterator[str]:
    bounds = ", ".join(f"{words} {schema[name]}" for name, words in _BOUNDS if name in schema)
    if bounds:
        yield f"({bounds})"
