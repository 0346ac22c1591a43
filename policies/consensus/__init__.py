"""Agreement on an order of opaque commands: one interface, several protocols.

A replicated log is a policy mounted beside its state machine. They speak by the local messages of `policies.local`:

- the state machine tells it `Propose`, `Read`, `Snapshot`, `Reconfigure`, `Allow`, `Transfer` and `GiveUp`;
- it tells the state machine (``applier``) `Committed`, `SnapshotDue`, `Readable`, `Restore`, `Configured` and
  `Accused`, and every watcher `Leadership`;
- it decides ``leader`` (`Elected`) when it begins to lead a term, and ``commit`` (`Chosen`) for each index.

Index 1 is the first command. A command that is empty is the protocol's own and is not told to the state machine, nor
is one that begins with the byte 0xC1, which MessagePack never uses: such a proposal is refused. After a restart
commands are told again from the last snapshot on, so a state machine starts empty in every life. A state taken over
in place of commands, then or later, is decided as ``restore`` (`Restored`).

Members may change, one change at a time: what is asked while another is under way is refused with a note, and whoever
asked comes again unless it is told `Configured`. A member that joins later is made with the first members, as all are,
and waits until it is found; one that is removed is told so when it can be reached, and falls silent.

Some commands may be the leader's alone to ask (`policies.consensus.reserved`): where members may lie, a log refuses
them from its state machine while it does not lead, and loses those that wait when it leads no more.
"""

from __future__ import annotations

from collections.abc import Callable

from policies.config import ConsensusRules, HotstuffConfig, PbftConfig
from policies.consensus.hotstuff import HotStuff
from policies.consensus.hotstuff import evidence as of_hotstuff
from policies.consensus.pbft import Pbft
from policies.consensus.pbft import evidence as of_pbft
from policies.consensus.raft import Raft
from policies.consensus.reserved import Reserved, nothing
from policies.port import Policy

__all__ = ["HotStuff", "Pbft", "Raft", "bears_liars", "convicts", "replicated_log"]


def convicts(data: bytes, verify: Callable[[str, bytes, bytes], bool]) -> str:
    """Return whom encoded evidence, of any protocol here, proves guilty, "" if nobody."""
    return of_hotstuff.convicts(data, verify) or of_pbft.convicts(data, verify)


def bears_liars(config: ConsensusRules) -> bool:
    """Return whether a third of the members, less one, may lie under these rules, and not only crash."""
    return isinstance(config, HotstuffConfig | PbftConfig)


def replicated_log(
    config: ConsensusRules,
    members: tuple[str, ...],
    applier: str = "",
    watchers: tuple[str, ...] = (),
    reserved: Reserved = nothing,
) -> Policy:
    """Return one member of the log that ``config`` asks for.

    Args:
        config: a protocol's parameters; their class is the choice.
        members: the whole committee, in the order in which everybody knows it.
        applier: path of the state machine on this node, ``""`` for none.
        watchers: paths that are told who leads.
        reserved: which commands are the leader's alone to ask; Raft trusts its members, and asks nothing of it.
    """
    if isinstance(config, HotstuffConfig):
        return HotStuff(config, members, applier, watchers, reserved)
    if isinstance(config, PbftConfig):
        return Pbft(config, members, applier, watchers, reserved)
    return Raft(config, members, applier, watchers)
