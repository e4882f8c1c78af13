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
from queue_runner.collector.routes import ROUTES, Route
from queue_runner.collector.schemas import Schema
from queue_runner.records import FOLLOWED

_NAMES = {"study": "its id, or the name of the latest of that name", "job": "its id"}
#: By the words of the parameter `format`.
_FORMATS: Mapping[str, Plain] = {
    "msgpack": {"application/vnd.msgpack": {"schema": {"type": "string", "format": "binary"}}},
    "parts": {FOLLOWED: {"schema": {"type": "string", "format": "binary"}}},
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
        body=None if route.takes is None else _body(*route.takes),
    )


def _body(meaning: str, schema: Schema) -> Plain:
    return {
        "description": meaning,
        "content": {"application/json": {"schema": schema}},
        "required": "null" not in schema["type"],
    }
