"""The OpenAPI document: what every route takes and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from queue_runner.collector.schemas import Schema, schema_of

Plain = dict[str, Any]

ERROR = schema_of({"error": {"code": str, "message": str}})
TEXT: Schema = {"type": "string"}
SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}

_ERRORS = {
    "400": "a parameter or body that is not accepted",
    "401": "no token, or a wrong one",
    "404": "there is nothing of that name",
    "408": "the body did not come in time",
    "413": "more than is taken",
    "416": "the object ends before that byte",
    "422": "complete, but not what its name says; send it again",
    "502": "the store refuses its collector",
    "503": "the database, the broker or the store does not answer",
    "507": "the quota or the disk is used up",
}
#: What any route behind the token may answer.
ANY = ("400", "401", "404", "408", "413", "503")

_ABOUT = (
    'An error is `{"error": {"code": ..., "message": ...}}`. A path that has no such method answers 405,'
    " with those it has in `Allow`; one that is not here answers 404."
)


def document(version: str, *paths: Mapping[str, Plain]) -> Plain:
    """Of these paths; later ones add methods to earlier ones."""
    merged: dict[str, Plain] = {}
    for each in paths:
        for path, methods in each.items():
            merged.setdefault(path, {}).update(methods)
    return {
        "openapi": "3.1.0",
        "info": {"title": "queue-runner collector", "version": version, "description": _ABOUT},
        "security": [{"token": []}],
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "paths": merged,
    }


def operation(
    summary: str,
    answer: Plain,
    parameters: Sequence[Plain] = (),
    *,
    body: Plain | None = None,
    errors: Sequence[str] = (),
    also: Mapping[str, Plain] | None = None,
) -> Plain:
    """answer: what 200 holds, by media type; errors: beside those of any route; also: other successes."""
    refused = {code: _refused(code) for code in sorted({*ANY, *errors})}
    good = {"200": {"description": summary, "content": answer}, **(also or {})}
    return {
        "summary": summary,
        "parameters": list(parameters),
        **({} if body is None else {"requestBody": body}),
        "responses": {**good, **refused},
    }


def open_to_all(described: Plain) -> Plain:
    """Without a token, and so without what can only go wrong behind it."""
    answers = {"200": described["responses"]["200"]}
    return {**described, "responses": answers, "security": []}


def parameter(place: str, name: str, meaning: str, schema: Schema, required: bool = False) -> Plain:
    return {
        "name": name,
        "in": place,
        "required": required or place == "path",
        "description": meaning,
        "schema": schema,
    }


def as_json(kind: Any) -> Plain:
    """An answer in JSON, see `schema_of`."""
    return {"application/json": {"schema": schema_of(kind)}}


def whole(least: int, most: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def _refused(code: str) -> Plain:
    return {"description": _ERRORS[code], "content": {"application/json": {"schema": ERROR}}}
