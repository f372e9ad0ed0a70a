"""The one place where an error becomes an answer: RFC 9457 problem details with the documents' `error` object.

Sent as `application/json`: every document promises that, and clients that look at the type before they parse would
miss `application/problem+json`. Which error means what is declared beside whatever raises it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from gateway.auth.credentials import CredentialMissing
from registry.core.errors import GatehouseError, Invalid, Unauthenticated

log = structlog.get_logger(__name__)

REQUEST_ID = "gatehouse.request_id"
"""Key of the request's id in the ASGI scope."""
WORDS = "gatehouse.error_words"
"""Key of a document's own error codes in the ASGI scope, by those used elsewhere."""
PLAIN_429 = "gatehouse.plain_429"
"""Key of the sentence that stands for the `error` object of a 429 where a document shows a string there."""

_TITLES = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    409: "Conflict",
    413: "Payload Too Large",
    415: "Unsupported Media Type",
    422: "Validation Error",
    429: "Too Many Requests",
    503: "Service Unavailable",
}
_CODES = {
    400: "VALIDATION_ERROR",
    401: "AUTHENTICATION_REQUIRED",
    403: "INSUFFICIENT_PERMISSIONS",
    404: "RESOURCE_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    409: "RESOURCE_CONFLICT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    422: "VALIDATION_ERROR",
    429: "RATE_LIMIT_EXCEEDED",
    503: "SERVICE_UNAVAILABLE",
}
_UNEXPECTED = "An unexpected error occurred."
_INVALID = "Invalid request parameters"


class BadRequest(GatehouseError):
    """A request that cannot even be read."""

    status = 400
    code = "VALIDATION_ERROR"
    title = "Bad Request"


class PayloadTooLarge(GatehouseError):
    status = 413
    code = "PAYLOAD_TOO_LARGE"
    title = "Payload Too Large"


def install_errors(app: FastAPI) -> None:
    """Render every error of the application here."""
    for kind in (GatehouseError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _handle)


async def _handle(request: Request, error: Exception) -> Response:
    return error_response(request.scope, error)


def error_response(scope: Scope, error: Exception) -> Response:
    """The answer to an error, whichever it is."""
    if isinstance(error, Invalid):
        loc: list[str | int] = ["body", *error.field.split(".")] if error.field else ["body"]
        return _validation_response(scope, [{"loc": loc, "msg": error.message, "type": "value_error"}], error.message)
    if isinstance(error, RequestValidationError):
        return _validation_response(scope, _problems(error), _INVALID)
    if isinstance(error, GatehouseError):
        if error.status >= 500:
            log.error("request failed", code=error.code, error=error.message)
        # What is our own fault is nothing that a caller could act on.
        message = _UNEXPECTED if error.status == 500 else error.message
        return _response(
            scope, error.status, error.title, error.code, message, details=error.details, headers=_headers(error)
        )
    if isinstance(error, HTTPException):
        title = _TITLES.get(error.status_code, "Error")
        message = str(error.detail) or title
        code = _CODES.get(error.status_code, "ERROR")
        return _response(scope, error.status_code, title, code, message, headers=error.headers)
    return _response(scope, 500, "Internal Server Error", "INTERNAL_SERVER_ERROR", _UNEXPECTED)


def _headers(error: GatehouseError) -> dict[str, str]:
    headers: dict[str, str] = {}
    if isinstance(error, Unauthenticated):
        reason = "" if isinstance(error, CredentialMissing) else ', error="invalid_token"'
        headers["WWW-Authenticate"] = f'Bearer realm="gatehouse"{reason}'
    if (seconds := error.details.get("retry_after")) is not None:
        headers["Retry-After"] = str(seconds)
    return headers


def _problems(error: RequestValidationError) -> list[dict[str, Any]]:
    # The rejected input is left out: it may be a secret.
    entries = cast("Sequence[Mapping[str, Any]]", error.errors())
    return [{"loc": list(entry["loc"]), "msg": str(entry["msg"]), "type": str(entry["type"])} for entry in entries]


def _validation_response(scope: Scope, problems: list[dict[str, Any]], message: str) -> Response:
    path: str = scope["path"]
    status = 400 if path == "/api" or path.startswith("/api/") else 422
    details = [{"field": ".".join(map(str, entry["loc"][1:])), "message": entry["msg"]} for entry in problems]
    return _response(scope, status, "Validation Error", "VALIDATION_ERROR", message, detail=problems, details=details)


def _response(
    scope: Scope,
    status: int,
    title: str,
    code: str,
    message: str,
    *,
    detail: Any = None,
    details: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    request_id = scope.get(REQUEST_ID, "")
    words: Mapping[str, str] = scope.get(WORDS, {})
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": message if detail is None else detail,
        "request_id": request_id,
        "error": {
            "code": words.get(code, code),
            "message": message,
            "details": details or {},
            "request_id": request_id,
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        },
    }
    if isinstance(details, dict) and "retry_after" in details:
        body["retry_after"] = details["retry_after"]
    if status == 429 and PLAIN_429 in scope:
        body["error"] = scope[PLAIN_429]
    # Plain ASCII: a message may quote what no encoding can express.
    return Response(json.dumps(body), status, headers, media_type="application/json")
