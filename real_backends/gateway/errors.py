"""Errors in OpenAI's form: ``{"error": {"message", "type", "param", "code"}}`` with its status codes.

Source of the form and of the codes used: OpenAI API reference, "Error codes", and its Python client, which
reads the body's ``error`` and raises by status.
"""

from __future__ import annotations

from typing import Any

SHOWN_MAX = 80  # characters of what a client sent


class ApiError(Exception):
    """A request that gets no answer, in words for its client.

    Attributes:
        message: one sentence.
        status: HTTP status code.
        param: the field that is wrong, None where no single one is.
        code: a word for programs, None where the status says all.
    """

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message, self.status, self.param, self.code = message, status, param, code

    @property
    def kind(self) -> str:
        """What the form calls ``type``."""
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def body(self) -> dict[str, Any]:
        """Return the JSON body."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def invalid(param: str, value: object, allowed: str) -> ApiError:
    """Return the error for a field whose value is not allowed."""
    return ApiError(f"{param}={_short(value)}: allowed: {allowed}", param=param, code="invalid_value")


def unsupported(param: str, value: object, allowed: str) -> ApiError:
    """Return the error for a value that is good elsewhere and cannot be honoured here."""
    return ApiError(
        f"{param}={_short(value)} is not supported here: allowed: {allowed}", param=param, code="unsupported_value"
    )


def unknown(param: str) -> ApiError:
    """Return the error for a field that is none."""
    name = param if len(param) <= SHOWN_MAX else param[: SHOWN_MAX - 3] + "..."
    return ApiError(f"Unrecognized request argument supplied: {name}", param=name, code="unknown_parameter")


def _short(value: object) -> str:
    """Return a value as an error shows it: its client knows the rest, and may have sent a megabyte of it."""
    try:
        shown = repr(value)
    except RecursionError:  # JSON nests a little deeper than Python writes down again
        return "(nested too deep to show)"
    return shown if len(shown) <= SHOWN_MAX else shown[: SHOWN_MAX - 3] + "..."
