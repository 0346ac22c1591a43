"""What a client does, as pure functions: the same rule in the twin and against real gateways.

A client sends its request to one gateway. It follows a redirect, comes back when asked to, and asks the next gateway,
with the same ``op_id``, when it hears nothing; each silence doubles its patience. It stops at an outcome, or when it
has heard of none by twice its deadline.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from policies.gateway import Answer, AnswerBy, Come, Redirect, Refused

GIVE_UP_FACTOR = 2.0
"""A client waits for an outcome until this many deadlines after it asked (our choice)."""
REDIRECTS_MAX = 10
"""After so many redirects without an answer in between, the deadline is the end."""
PATIENCE_MAX = 8
"""Doublings stop here."""


class Attempt(NamedTuple):
    """What to do next: ask gateway number ``gateway`` after ``after_s``."""

    gateway: int
    number: int = 1
    silences: int = 0
    redirects: int = 0
    after_s: float = 0.0

    def wait_s(self, retry_s: float) -> float:
        """How long to wait for an answer to this attempt."""
        return retry_s * float(min(PATIENCE_MAX, 2**self.silences))


class Finish(NamedTuple):
    """The end, from the client's side. ``status``: answered, refused or lost."""

    status: str
    reason: str
    output: str
    tokens: int
    first_token_ns: int
    attempts: int
    model: str = ""  # that answered, where it is not the one asked for


def first_attempt(gateway: int) -> Attempt:
    """Begin at the gateway that answered last time."""
    return Attempt(gateway)


def on_reply(attempt: Attempt, reply: Any, left_s: float, gateways: list[str]) -> Attempt | Finish | None:
    """React to a reply; ``left_s`` is the time left to the deadline. None: go on waiting."""
    if isinstance(reply, Answer):
        model = reply.model if isinstance(reply, AnswerBy) else ""
        return Finish("answered", "", reply.output, reply.tokens, reply.first_token_ns, attempt.number, model)
    if isinstance(reply, Refused):
        return Finish("refused", reply.reason, "", 0, 0, attempt.number)
    if isinstance(reply, Redirect):
        if left_s < 0 and attempt.redirects >= REDIRECTS_MAX:
            return Finish("lost", "gateways point at one another", "", 0, 0, attempt.number)
        # Two gateways that point at each other must not be asked in a tight circle.
        pause = 0.0 if attempt.redirects < 3 else 0.5
        target = gateways.index(reply.to) if reply.to in gateways else attempt.gateway + 1
        return attempt._replace(
            gateway=target, number=attempt.number + 1, redirects=attempt.redirects + 1, after_s=pause
        )
    if isinstance(reply, Come):
        if left_s <= reply.retry_s:
            return Finish("refused", reply.reason, "", 0, 0, attempt.number)
        elsewhere = attempt.gateway + 1 if reply.reason == "no leader" else attempt.gateway
        return attempt._replace(gateway=elsewhere, number=attempt.number + 1, after_s=reply.retry_s)
    return None


def on_silence(attempt: Attempt, left_s: float, deadline_s: float) -> Attempt | Finish:
    """React to hearing nothing: the next gateway, until the client gives up."""
    if left_s < -(GIVE_UP_FACTOR - 1.0) * deadline_s:
        return Finish("lost", "no outcome heard", "", 0, 0, attempt.number)
    return attempt._replace(
        gateway=attempt.gateway + 1,
        number=attempt.number + 1,
        silences=attempt.silences + 1,
        redirects=0,
        after_s=0.0,
    )
