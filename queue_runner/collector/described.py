"""The OpenAPI paths of `routes.py`, and of what every collector has beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from queue_runner.collector.openapi import (
    TEXT,
    Plain,
    as_json,
    open_to_all,
    operation,
    parameter,
)
from queue_runner.collector.routes import MAX_LIMIT, ROUTES, Route

_NAMES = {"study": "its id, or the name of the latest of that name", "job": "its id"}
_JOBS = {
    "type": ["object", "null"],
    "properties": {
        "jobs": {
            "type": "array",
            "items": {"type": "string", "pattern": r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$"},
            "maxItems": MAX_LIMIT,
        }
    },
    "additionalProperties": False,
}
_BODY = {
    "description": "without jobs: all of the study",
    "content": {"application/json": {"schema": _JOBS}},
    "required": False,
}
#: By the words of the parameter `format`.
_FORMATS: Mapping[str, Plain] = {
    "msgpack": {"application/vnd.msgpack": {"schema": {"type": "string", "format": "binary"}}},
    "csv": {"text/csv": {"schema": TEXT}},
    "ndjson": {"application/x-ndjson": {"schema": TEXT}},
}


def api_paths() -> Mapping[str, Plain]:
    own: dict[str, Plain] = {
        "/healthz": {
            "get": open_to_all(
                operation(
                    "Whether the collector serves; needs no token",
                    as_json({"status": str, "version": str}),
                )
            )
        },
        "/metrics": {
            "get": operation(
                "Counters in the text format of Prometheus", {"text/plain": {"schema": TEXT}}
            )
        },
        "/openapi.json": {"get": operation("This document", as_json(Mapping[str, Any]))},
    }
    for route in ROUTES:
        own.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return own


def _operation(route: Route) -> Plain:
    answer = as_json(route.gives)
    if "format" in route.query:
        _, words = route.query["format"]
        for word in words["enum"]:
            answer |= _FORMATS.get(word, {})
    return operation(
        route.summary,
        answer,
        [
            *(
                parameter("path", name, meaning, TEXT)
                for name, meaning in _NAMES.items()
                if f"{{{name}}}" in route.path
            ),
            *(
                parameter("query", name, meaning, schema)
                for name, (meaning, schema) in route.query.items()
            ),
        ],
        body=_BODY if route.method == "POST" else None,
    )
