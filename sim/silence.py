"""Stopped processes in the twin: the heads of sessions with a stage that is silent lose them after a while.

Who is stopped for less is not noticed; what it computes stands still meanwhile, as at a speed of nothing
(`sim.compute.Compute.set_speed`), which an owner's pause is too. Nobody loses a session to that one.

ASSUMPTION: bytes that are on their way from or to a stopped node arrive until its silence is noticed; a kernel's
buffers take some, not all.
"""

from __future__ import annotations

from collections.abc import Callable

from policies.port import NS_PER_S
from sim.sessions import Session
from sim.world import Node, World


class Silence:
    """Who is stopped, and who hears that nobody answers.

    Args:
        world: whose nodes may be stopped.
        after_s: silence is noticed after this.
        through: returns the sessions through a node.
        lose: ends a session, whose head hears of it now: which, why, and by whose fault.
    """

    def __init__(
        self, world: World, after_s: float, through: Callable[[Node], list[Session]],
        lose: Callable[[Session, str, str], None],
    ) -> None:  # fmt: skip
        self._world, self._after_ns, self._through, self._lose = world, int(after_s * NS_PER_S), through, lose
        self._since: dict[str, int] = {}  # (ns) a node is stopped

    def stop(self, node: Node) -> None:
        """A node's process is stopped."""
        self._since.setdefault(node.name, int(self._world.engine.now))
        self._listen()

    def go_on(self, node: Node) -> None:
        """It goes on, or is gone; as a head it begins to hear what others do not say."""
        if self._since.pop(node.name, None) is not None and self._since:
            self._listen()

    def begins(self, session: Session) -> None:
        """A session begins, perhaps through somebody who is stopped."""
        if any(stage.node in self._since for stage in session.job.stages):
            self._listen()

    def _listen(self) -> None:
        now = int(self._world.engine.now)
        self._world.engine.call_at(now + self._after_ns, self._hear, now)

    def _hear(self, since: int) -> None:
        for name in [name for name, stopped in self._since.items() if stopped <= since]:
            for session in self._through(self._world.by_name[name]):
                if session.started_ns <= since and session.node.name not in self._since:
                    self._lose(session, "stage is silent", name)
