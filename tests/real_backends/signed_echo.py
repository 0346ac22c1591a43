"""Signed echo broadcast: a small policy that promises something to honest nodes whatever one of four does.

Every node runs the same jobs, one after another, and reports each result to all. A peer that has had the same result
signs one echo of the first report it hears of an author and job. With echoes of a quorum the author sends a
certificate, and whoever can check one delivers the result. This is signed echo broadcast (Cachin, Guerraoui and
Rodrigues, Introduction to Reliable and Secure Distributed Programming, 2011, section 3.10.3), with the job run again as
the test of a report.

With n = 4 and f = 1 any two quorums of three share an honest node, and each has two honest ones that ran the job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from policies.jobs import Done, SessionJob, Stage
from policies.port import Policy
from policies.wire import Message, digest, encode
from policies.work import Capability, Renew, Report

QUORUM = 3
TICK_NS = 20_000_000
TOKENS = 7


def result_of(number: int) -> str:
    """Return the right output of a job."""
    return digest(f"job {number}".encode())


class Echo(Message, frozen=True, tag="echo"):
    """I had this result of this job, too, and have echoed no other report of this author."""

    author: str
    number: int
    output: str
    tokens: int
    signature: bytes


class Certificate(Message, frozen=True, tag="certificate"):
    """A quorum echoed this report."""

    author: str
    number: int
    output: str
    tokens: int
    echoes: tuple[tuple[str, bytes], ...]


class Delivered(Message, frozen=True, tag="delivered"):
    """What a node takes to be the result of an author's job."""

    author: str
    number: int
    output: str
    tokens: int


def _echo(author: str, number: int, output: str, tokens: int) -> bytes:
    return encode(["echo", author, number, output, tokens])


class SignedEcho(Policy):
    """One node; ``port.me`` and ``port.peers`` are four."""

    messages = (Report, Echo, Certificate, Renew)

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.number = int(saved.get("number", b"0"))
        self.echoed = {key: value for key, value in saved.items() if key != "number"}
        self.results: dict[int, tuple[str, int]] = {}
        self.running: dict[int, int] = {}
        self.echoes: dict[str, bytes] = {}
        self.port.set_timer("tick", TICK_NS)

    def on_timer(self, name: str) -> None:
        self.port.set_timer("tick", TICK_NS)
        me = self.port.me
        if self.number in self.results:
            self.report()
        else:
            job = SessionJob(str(self.number), "m", (Stage(me, 0, 1),), "prompt", me, 1, TOKENS, TOKENS)
            self.running[self.port.submit(job)] = self.number
        # What overclaiming is about; nobody here believes or needs it.
        self.port.broadcast(Renew(Capability(1e9, 1e-3, 1e-3, 1e-3, 1e6, 1e-3), 0))

    def on_job(self, job_id: int, outcome: Any) -> None:
        number = self.running.pop(job_id, -1)
        if isinstance(outcome, Done) and number >= 0:
            self.results[number] = (outcome.output, outcome.tokens)
            self.report()

    def report(self) -> None:
        """Say what the present job gave, and echo it oneself."""
        if self.number not in self.results:
            return
        (output, tokens), me, number = self.results[self.number], self.port.me, str(self.number)
        signature = self.port.keys.sign(encode(["report", me, number, output, tokens]))
        self.port.broadcast(Report(me, number, 0, "", me, output, tokens, self.port.wall, signature))
        self.count(me, self.port.keys.sign(_echo(me, self.number, output, tokens)))

    def on_message(self, sender: str, message: Any) -> None:
        if isinstance(message, Report):
            self.hear(sender, message)
        elif isinstance(message, Echo):
            if (message.author, message.number) == (self.port.me, self.number) and self.number in self.results:
                self.count(sender, message.signature)
        elif isinstance(message, Certificate):
            signed = _echo(message.author, message.number, message.output, message.tokens)
            good = {name for name, s in message.echoes if self.port.keys.verify(name, signed, s)}
            if len(good & {self.port.me, *self.port.peers}) >= QUORUM:
                self.deliver(message.author, message.number, message.output, message.tokens)

    def hear(self, author: str, report: Report) -> None:
        """Echo a report that its author signed, if this node had that result and echoed no other one."""
        signed = encode(["report", author, report.op_id, report.output, report.tokens])
        if not report.op_id.isdecimal() or not self.port.keys.verify(author, signed, report.signature):
            return
        number = int(report.op_id)
        key, content = f"{author}/{number}", encode((report.output, report.tokens))
        if self.results.get(number) != (report.output, report.tokens) or self.echoed.get(key, content) != content:
            return
        if key not in self.echoed:
            self.echoed[key] = content
            self.port.save(key, content)
        signature = self.port.keys.sign(_echo(author, number, report.output, report.tokens))
        self.port.send(author, Echo(author, number, report.output, report.tokens, signature))

    def count(self, voter: str, signature: bytes) -> None:
        """Count an echo of one's own report; with a quorum certify it and go on to the next job."""
        me, number, (output, tokens) = self.port.me, self.number, self.results[self.number]
        if not self.port.keys.verify(voter, _echo(me, number, output, tokens), signature):
            return
        self.echoes[voter] = signature
        if len(self.echoes) >= QUORUM:
            self.port.broadcast(Certificate(me, number, output, tokens, tuple(self.echoes.items())))
            self.number, self.echoes = number + 1, {}
            self.port.save("number", str(self.number).encode())
            self.deliver(me, number, output, tokens)

    def deliver(self, author: str, number: int, output: str, tokens: int) -> None:
        """Announce a result."""
        self.port.decide("delivered", Delivered(author, number, output, tokens))


class AtOnce:
    """An executor whose jobs are done as they are asked for."""

    def start(self, report: Callable[[str, int, bytes], None]) -> None:
        self._report = report

    def submit(self, path: str, job_id: int, payload: bytes) -> None:
        number = int(msgspec.msgpack.decode(payload, type=SessionJob).op)
        self._report(path, job_id, encode(Done(result_of(number), TOKENS, 0)))

    def cancel(self, path: str, job_id: int) -> None: ...
    def limit(self, resource: str, share: float) -> None: ...
    def on_frame(self, sender: str, kind: int, body: bytes) -> None: ...
    def on_peer(self, peer: str, hint: str) -> None: ...
    async def close(self) -> None: ...
