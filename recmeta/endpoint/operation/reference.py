"""GET /docs: the API as a page that is read without scripts, made of the OpenAPI description."""

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

Schema = Mapping[str, Any]
REF = "#/components/schemas/"
HEAD = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>recmeta: the API</title>
  <link rel="icon" href="/favicon.ico" type="image/svg+xml">
  <link rel="stylesheet" href="/page/style.css">
</head>
<body>
<main class="reference">
<h1>The API</h1>
<p class="hint">For programs, it is in <a href="/openapi.json">openapi.json</a>. If the
server asks for keys, every request except health probes carries
<code>Authorization: Bearer KEY</code>.</p>
"""
router = APIRouter()


@router.get("/docs", include_in_schema=False)
def reference(request: Request) -> Response:
    """Return the page."""
    app: FastAPI = request.app
    if not hasattr(app.state, "reference"):
        app.state.reference = page(app.openapi())
    return Response(app.state.reference, media_type="text/html")


def page(api: Schema) -> str:
    """Return the page of an OpenAPI description."""
    schemas = api["components"]["schemas"]
    parts = [HEAD]
    named: list[str] = []
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            parts += _operation(f"{method.upper()} {path}", operation)
            named += _names(operation)
    parts.append('<h2 id="types">Types</h2>\n')
    named = list(dict.fromkeys(named))
    for name in named:  # which grows by what the types themselves name
        named += [other for other in dict.fromkeys(_names(schemas[name])) if other not in named]
        parts += _type(name, schemas[name])
    return "".join([*parts, "</main>\n</body>\n</html>\n"])


def _operation(title: str, operation: Schema) -> Iterator[str]:
    yield f'<section class="card">\n<h2><code>{html.escape(title)}</code></h2>\n'
    yield f"<p>{html.escape(operation.get('summary', ''))}.</p>\n"
    yield _text(operation.get("description"))
    rows = [
        (p["name"], f"{_kind(p['schema'])}, {p['in']}", _described(p), p.get("required"))
        for p in operation.get("parameters", [])
    ]
    yield _fields(rows)
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body, {html.escape(media_type)}: {_kind(content['schema'])}</p>\n"
    answers = [
        f"<li><b>{status}</b> {html.escape(answer['description'])}{_body(answer)}</li>\n"
        for status, answer in operation["responses"].items()
    ]
    yield f"<ul>\n{''.join(answers)}</ul>\n</section>\n"


def _type(name: str, schema: Schema) -> Iterator[str]:
    shown = html.escape(name)
    yield f'<section class="card" id="{shown}">\n<h2 class="small">{shown}</h2>\n'
    yield _text(schema.get("description"))
    required = schema.get("required", [])
    yield _fields(
        [
            (field, _kind(inner), _described(inner), field in required)
            for field, inner in schema.get("properties", {}).items()
        ]
    )
    for example in schema.get("examples", []):
        yield f"<pre>{html.escape(json.dumps(example, indent=2, ensure_ascii=False))}</pre>\n"
    yield "</section>\n"


def _fields(rows: list[tuple[str, str, str, bool | None]]) -> str:
    if not rows:
        return ""
    cells = "".join(
        f"<dt><code>{html.escape(name)}</code> {kind}{', required' if required else ''}</dt>"
        f"<dd>{text}</dd>\n"
        for name, kind, text, required in rows
    )
    return f"<dl>\n{cells}</dl>\n"


def _body(answer: Schema) -> str:
    kinds = {_kind(c["schema"]) for c in answer.get("content", {}).values() if c.get("schema")}
    return "".join(f" {kind}" for kind in sorted(kinds))


def _kind(schema: Schema) -> str:
    """Return what a value may be, with links to the types that are named."""
    if "$ref" in schema:
        name = html.escape(schema["$ref"].removeprefix(REF))
        return f'<a href="#{name}">{name}</a>'
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_kind(one) for one in schema[key]))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(html.escape(json.dumps(value)) for value in values)
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    return html.escape(schema.get("format") or schema.get("type") or "anything")


def _described(schema: Schema) -> str:
    """Return what is said of a value: its description, default and bounds."""
    inner = {**schema.get("schema", {}), **schema}
    said = [html.escape(inner["description"])] if "description" in inner else []
    if inner.get("default") is not None:
        said.append(f"Default: <code>{html.escape(json.dumps(inner['default']))}</code>.")
    bounds = {"minimum": "At least", "maximum": "At most", "maxItems": "Most entries:"}
    said += [f"{text} {inner[key]:g}." for key, text in bounds.items() if key in inner]
    return " ".join(said)


def _text(text: str | None) -> str:
    return f"<p>{html.escape(text)}</p>\n" if text else ""


def _names(schema: Any) -> Iterator[str]:
    """Yield the types that a schema names."""
    if isinstance(schema, Mapping):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].removeprefix(REF)
        for inner in schema.values():
            yield from _names(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _names(inner)
