"""The endpoint's side of the village: each token once, whatever is run again, lost or silent."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from policies.gateway import Answer, AnswerBy, Come, Part, PartBy, Redirect, Refused, Submit, Withdraw
from policies.wire import Message, encode
from real_backends.gateway.asking import Asking
from real_backends.gateway.book import COMPARED_MAX, Book
from real_backends.gateway.errors import ApiError
from real_backends.gateway.metrics import Metrics
from real_backends.transports.frames import REPLY, REQUEST, PeerHint, Receive, Reply, Request, decode
from scenarios.clients import Finish

_operation: Any = msgspec.msgpack.Decoder(Submit | Withdraw).decode
Script = Sequence[Message | None]


class Members:
    """Links to a committee of two that say, at each submission, what a script holds; None is silence."""

    me = "owner"

    def __init__(self, *scripts: Script) -> None:
        self.counts: Counter[str] = Counter()
        self.metrics = Metrics()
        self.asking = Asking(self, ("k1", "k2"), "m", 0.01, 5.0, self.metrics)
        self.output: bytes | None = np.arange(4, dtype="<i4").tobytes()
        self.heard: list[tuple[str, str]] = []
        self.stranger: Message | None = None  # what a worker says to whoever has asked
        self._scripts = list(scripts)

    async def start(self, receive: Receive, hint: PeerHint) -> None:
        """Nothing is needed."""

    async def close(self, flush_s: float = 0.0) -> None:
        """Nothing is needed."""

    def send(self, to: str, kind: int, body: bytes) -> bool:
        """Take a frame and answer it by the next script."""
        assert kind == REQUEST
        request: Request = decode(kind, body)
        operation = _operation(request.payload)
        self.heard.append((to, type(operation).__name__))
        if self.stranger is not None:
            self._reply("w1", request, self.stranger)
        for message in self._scripts.pop(0) if isinstance(operation, Submit) and self._scripts else ():
            if message is not None:
                self._reply(to, request, message)
        return True

    def _reply(self, sender: str, request: Request, message: Message) -> None:
        blob = self.output if isinstance(message, Answer) else None
        reply = Reply(request.client, request.op_id, encode(message), not isinstance(message, Part), blob)
        asyncio.get_running_loop().call_soon(self.asking.on_frame, sender, REPLY, encode(reply))

    def ask(self, take: int = 1000, heard: Callable[[str], None] = lambda model: None) -> list[int]:
        """Ask for four tokens, and close after so many were given out."""

        async def run() -> list[int]:
            found: list[int] = []
            tokens = self.asking.ask([256], 4, None, heard)
            async for new in tokens:
                found += new
                if len(found) >= take:
                    break
            await tokens.aclose()
            return found

        return asyncio.run(run())


ANSWER = Answer("digest", 4, 7, "w1")


def test_parts_come_before_the_answer_and_each_token_once() -> None:
    """What the answer repeats is compared and not given out again."""
    members = Members([Part(0, (0,)), Part(1, (1, 2)), ANSWER])
    assert members.ask() == [0, 1, 2, 3]
    assert members.heard == [("k1", "Submit")]
    assert members.metrics.counts["repeated_tokens_total"] == members.metrics.counts["differing_tokens_total"] == 0


@pytest.mark.parametrize("said", [Part(0, (9, 9)), Answer("other", 2, 7, "w1"), Refused("no")])
def test_a_worker_s_word_is_no_answer(said: Message) -> None:
    """Only gateways are believed: what another node of the village says ends nothing and is not given out."""
    members = Members([Part(0, (0,)), Part(1, (1, 2)), Part(3, (3,)), ANSWER])
    members.stranger = said
    assert members.ask() == [0, 1, 2, 3]
    assert members.asking.book.asked[0].finish == Finish("answered", "", "digest", 4, 7, 1)
    assert members.metrics.counts["differing_tokens_total"] == 0


def test_whose_the_tokens_are_is_told_before_they_come() -> None:
    """Parts and answers of another model name it; the others are of the model that was asked for."""
    models: list[str] = []
    answer = AnswerBy("digest", 4, 7, "w1", "m+s")
    members = Members([Part(0, (0,)), PartBy(1, (1, 2), "m+s"), answer])
    assert members.ask(heard=models.append) == [0, 1, 2, 3]
    assert models == ["", "m+s", "m+s"]
    (asked,) = members.asking.book.asked
    assert asked.finish is not None
    assert asked.finish.model == "m+s"


def test_a_request_that_runs_again_repeats_nothing() -> None:
    """Tokens that come again, alone or with new ones, are counted; the stream goes on behind the last one."""
    members = Members([Part(0, (0, 1)), Part(0, (0,)), Part(1, (1, 2)), Part(3, (3,)), ANSWER])
    assert members.ask() == [0, 1, 2, 3]
    assert members.metrics.counts["repeated_tokens_total"] == 2


def test_tokens_that_differ_are_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    """What was sent stays, the rest is the answer's, and the log has a line."""
    members = Members([Part(0, (0, 9)), ANSWER])
    assert members.ask() == [0, 9, 2, 3]
    assert members.metrics.counts["differing_tokens_total"] == 1
    assert "differ" in caplog.text


def test_a_part_that_is_lost_is_made_good_by_the_answer() -> None:
    """Tokens behind a gap wait; nothing is given out of order."""
    members = Members([Part(0, (0,)), Part(2, (2,)), ANSWER])
    assert members.ask() == [0, 1, 2, 3]


def test_silence_redirects_and_come_again_are_followed() -> None:
    """The next gateway after silence, the named one after a redirect, and the same one again where it is busy."""
    members = Members([None], [Redirect("k1")], [Come("queue full", 0.0)], [Part(0, (0,)), ANSWER])
    assert members.ask() == [0, 1, 2, 3]
    assert [to for to, _ in members.heard] == ["k1", "k2", "k1", "k1"]


def test_closing_early_gives_the_request_up_at_every_gateway() -> None:
    """Whoever leads must hear it; and what still comes is for nobody."""
    members = Members([Part(0, (0,)), Part(1, (1,)), ANSWER])
    assert members.ask(take=1) == [0]
    assert members.heard == [("k1", "Submit"), ("k1", "Withdraw"), ("k2", "Withdraw")]


def test_an_answer_that_cannot_be_handed_over_is_asked_for_again_and_ends() -> None:
    """Without its blob it is no answer; after three tries the client hears so."""
    members = Members([ANSWER], [ANSWER], [ANSWER])
    members.output = None
    with pytest.raises(ApiError, match="hand it over") as raised:
        members.ask()
    assert (raised.value.status, len(members.heard)) == (502, 3)
    assert len({entry.request.op_id for entry in members.asking.book.asked}) == 3  # made anew by whoever is there


@pytest.mark.parametrize(
    ("reply", "status"),
    [(Refused("workers lost"), 503), (Refused("deadline passed"), 504), (Come("rate limit", 60.0), 429)],
)
def test_a_refusal_has_the_status_of_its_reason(reply: Message, status: int) -> None:
    """A client is told whether to come again, and nothing is withdrawn that has its outcome."""
    members = Members([reply])
    with pytest.raises(ApiError) as raised:
        members.ask()
    assert raised.value.status == status
    assert members.heard == [("k1", "Submit")]


def test_the_book_has_every_request_with_its_end() -> None:
    """Answered, refused and given up: what each asked, when, and what the village's log says of it."""
    answered, refused, left = Members([ANSWER]), Members([Refused("no workers")]), Members([Part(0, (0, 1))])
    answered.ask()
    with pytest.raises(ApiError):
        refused.ask()
    left.ask(take=1)
    entries = [members.asking.book.asked for members in (answered, refused, left)]
    assert [[(e.finish.status, e.finish.reason, e.finish.tokens) for e in one if e.finish] for one in entries] == [
        [("answered", "", 4)], [("refused", "no workers", 0)], [("refused", "withdrawn by its client", 0)]
    ]  # fmt: skip
    ((entry,), _, _) = entries
    assert (entry.request.prompt_tokens, entry.request.new_tokens, entry.output) == (1, 4, answered.output)
    assert 0 <= entry.request.arrival_s <= entry.ended_s
    answered.asking.book.begin(time.monotonic_ns())
    assert answered.asking.book.asked == []


def test_only_some_answers_are_kept_to_be_compared() -> None:
    """An endpoint that serves for long keeps the rows of all requests, and the tokens of the first ones alone."""
    book, finish = Book(), Finish("answered", "", "digest", 4, 7, 1)
    for number in range(COMPARED_MAX + 3):
        book.end(book.enter(str(number), "http", 2, 300.0, [256], 4, None), finish, None, b"0000")
    assert sum(entry.output is not None for entry in book.asked) == COMPARED_MAX
    assert [entry.finish for entry in book.asked] == [finish] * (COMPARED_MAX + 3)
    assert all(entry.output is None for entry in book.asked[COMPARED_MAX:])
