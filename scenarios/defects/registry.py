"""Registers with one thing wrong: what a campaign must be able to see."""

from __future__ import annotations

from policies.registry import Op, Registry


class ReadsWhatItHas(Registry):
    """A member answers reads at once from what it has applied, without asking the log."""

    def _ask(self, op: Op) -> None:
        key, _ = self.reads.pop(op)
        self.port.reply(*op, self.state.configuration.get(key))
