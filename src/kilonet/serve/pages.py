"""Pages that need nothing from elsewhere: the documentation, and `/` where there is no page to draw on."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from typing import Any

from fastapi.responses import HTMLResponse

_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; border-top: 1px solid #8888; padding-top: 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: 0.9em; }
pre { overflow-x: auto; padding: 0.75rem; border: 1px solid #8888; border-radius: 0.4rem; }
table { border-collapse: collapse; } td, th { text-align: left; vertical-align: top; padding: 0.2rem 1rem 0.2rem 0; }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
STYLED = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; frame-ancestors 'none'"
"""The content-security policy of the pages that are made here."""
OWN = "frame-ancestors 'none'"
"""That of a page which brings one of its own."""


def answer(page: str, policy: str) -> HTMLResponse:
    """A page under a content-security policy."""
    return HTMLResponse(page, headers={"content-security-policy": policy, "cache-control": "no-cache"})


def without_page(name: str) -> str:
    """What stands at `/` for a model that no browser can compute."""
    return _page(
        f"Kilonet: {name}",
        f"<h1>{escape(name)}</h1><p>There is no page to draw on for this model: its layers are none that the page "
        'computes. It answers at <code>POST /v1/predict</code>; see <a href="docs">the documentation</a>.</p>',
    )


def documentation(document: dict[str, Any]) -> str:
    """An OpenAPI document as a page to read."""
    info, operations = document["info"], []
    for path, methods in document["paths"].items():
        operations += [_operation(path, method, operation) for method, operation in methods.items()]
    schemas = [
        f"<h3><code>{escape(name)}</code></h3>{_code(schema)}"
        for name, schema in document["components"]["schemas"].items()
    ]
    body = (
        f"<h1>{escape(info['title'])}</h1><p>The same for programs: <a href='openapi.json'>openapi.json</a>.</p>"
        f"{_EXAMPLES}{''.join(operations)}<h2>Schemas</h2>{''.join(schemas)}"
    )
    return _page(info["title"], body)


_EXAMPLES = f"""<h2>Try it</h2><pre>{
    escape('''curl -F file=@seven.png -F file=@three.jpg http://127.0.0.1:8000/v1/predict
curl -H 'content-type: image/png' --data-binary @seven.png http://127.0.0.1:8000/v1/predict
curl -H 'content-type: application/octet-stream' --data-binary @pixels.bin 'http://127.0.0.1:8000/v1/predict?probabilities=false'
''')
}</pre>"""


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    words = escape(operation.get("description", ""))
    parts = [f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation['summary'])}. {words}</p>"]
    if parameters := operation.get("parameters"):
        rows = "".join(
            f"<tr><td><code>{escape(one['name'])}</code></td><td>{escape(one['description'])}</td></tr>"
            for one in parameters
        )
        parts.append(f"<h3>Query</h3><table>{rows}</table>")
    if "requestBody" in operation:
        parts.append("<h3>Body</h3>")
        parts += [
            f"<p><code>{escape(kind)}</code></p>{_code(content['schema'])}"
            for kind, content in operation["requestBody"]["content"].items()
        ]
    rows = "".join(
        f"<tr><td><code>{escape(status)}</code></td><td>{escape(response['description'])}</td></tr>"
        for status, response in operation["responses"].items()
    )
    return f"{''.join(parts)}<h3>Answers</h3><table>{rows}</table>"


def _code(schema: dict[str, Any]) -> str:
    text = escape(json.dumps(schema, indent=1, ensure_ascii=False))
    return f"<details><summary>schema</summary><pre>{text}</pre></details>"


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>"
    )
