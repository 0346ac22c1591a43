"""The directives of Raft's transcripts: a cluster in which nothing happens unless the transcript says so.

Messages wait on their way until they are delivered or dropped, saves until they are synced, and each member's clock
stands still until it is ticked. After every step `tests.policies.raft_watch` asks the paper's safety properties.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from policies import port as p
from policies.config import RaftConfig
from policies.consensus.changes import Membership
from policies.consensus.raft.configurations import MARK, membership_in
from policies.local import Reconfigure, Snapshot, Transfer
from policies.port import NS_PER_S
from policies.wire import encode
from tests.policies.hand_cluster import CONFIG, HandCluster
from tests.policies.raft_watch import message


class Stage(HandCluster):
    """Members with a clock each.

    Attributes:
        clock: member to its own time.
        due: member to the deadlines of its timers.
    """

    def __init__(self, size: int, config: RaftConfig) -> None:
        names = [f"n{i + 1}" for i in range(size)]
        self.clock = dict.fromkeys(names, NS_PER_S)
        self.due: dict[str, dict[str, int]] = {name: {} for name in names}
        super().__init__(size, config=config)

    def join(self) -> None:
        """Start one more machine, which nobody has heard of."""
        name = f"n{len(self.names) + 1}"
        self.names += (name,)
        self.clock[name], self.due[name], self.saved[name], self.life[name] = NS_PER_S, {}, {}, -1
        self.restart(name)

    def give(self, name: str, given: tuple[Any, ...]) -> None:
        """Feed one input at the member's own time, and keep what leaves."""
        now = self.clock[name]
        for effect in self.watch.cells[name].step(now, now, given):
            if effect[0] == p.SEND:
                self.post.append((name, effect[2], effect[3]))
            elif effect[0] == p.SAVE:
                self.disk[name].append((effect[2], effect[3]))
            elif effect[0] == p.SET_TIMER:
                self.due[name][effect[2]], self.timers[name][effect[2]] = effect[3], effect[4]
            elif effect[0] == p.CANCEL_TIMER:
                self.timers[name].pop(effect[2], None)
        self._look_at(self.machine(name), name)

    def pass_time(self, name: str, until: int) -> None:
        """Let a member's clock run, and its timers fire in order."""
        while waiting := [(self.due[name][timer], timer) for timer in self.timers[name]]:
            deadline, timer = min(waiting)
            if deadline > until:
                break
            self.clock[name] = max(self.clock[name], deadline)
            self.fire(name, timer)
        self.clock[name] = until


class Story:
    """What a transcript may say; see each directive."""

    stage: Stage

    def directives(self) -> dict[str, Callable[..., str]]:
        """Return every directive by its name."""
        return {
            "add-nodes": self.add_nodes, "restart": self.restart, "campaign": self.campaign, "propose": self.propose,
            "propose-conf-change": self.propose_conf_change, "transfer-leadership": self.transfer_leadership,
            "compact": self.compact, "tick-heartbeat": self.tick_heartbeat, "tick-election": self.tick_election,
            "sync": self.sync, "deliver-msgs": self.deliver_msgs, "stabilize": self.stabilize,
            "raft-log": self.raft_log, "raft-state": self.raft_state, "status": self.status, "applied": self.applied,
            "messages": self.messages,
        }  # fmt: skip

    # -- what happens ----------------------------------------------------------------------------------------------

    def add_nodes(self, count: str, pre_vote: str = "no", check_quorum: str = "no", window: str = "256") -> str:
        """Begin with this many voters; later: add machines that are no members yet."""
        if hasattr(self, "stage"):
            for _ in range(int(count)):
                self.stage.join()
        else:
            rules = {"pre_vote": pre_vote == "yes", "check_quorum": check_quorum == "yes", "window": int(window)}
            self.stage = Stage(int(count), msgspec.structs.replace(CONFIG, **rules, max_batch=64))
        return ""

    def restart(self, name: str, log: str, term: str) -> str:
        """Start a member with this on its disk: ``log`` names the term of each entry, ``term`` is its own."""
        stage = self.stage
        terms = [int(word) for word in log.split(",")]
        entries = {index: (its, f"{its}.{index}".encode()) for index, its in enumerate(terms, start=1)}
        stage.watch.proposed |= {command for _, command in entries.values()}
        stage.crash(name)
        stage.saved[name] = {f"/{index:012d}": encode(entry) for index, entry in entries.items()}
        stage.saved[name]["/meta"] = encode((int(term), ""))
        stage.restart(name)
        return ""

    def campaign(self, name: str) -> str:
        """The member's election timer fires, if it is armed."""
        self.stage.fire(name, "election")
        return ""

    def propose(self, name: str, command: str) -> str:
        """A client proposes at a member."""
        self.stage.propose(name, command.encode())
        return ""

    def propose_conf_change(self, name: str, members: str, learners: str = "") -> str:
        """A client wishes at a member that these were the voters and learners."""
        self.stage.ask(name, Reconfigure(_names(members), _names(learners)))
        return ""

    def transfer_leadership(self, name: str, to: str) -> str:
        """A client wishes at a member that another would lead."""
        self.stage.ask(name, Transfer(to))
        return ""

    def compact(self, name: str, index: str) -> str:
        """The state machine gives its state at ``index`` to the log, which forgets the entries up to there."""
        raft, commands = self.stage.raft(name), self.stage.machine(name).commands
        later = [raft.log.entry(i)[1] for i in range(int(index) + 1, raft.applied + 1)]
        told = [command for command in later if command and not command.startswith(MARK)]
        self.stage.ask(name, Snapshot(int(index), encode(commands[: len(commands) - len(told)])))
        return ""

    def tick_heartbeat(self, name: str) -> str:
        """The member's heartbeat is due."""
        stage = self.stage
        stage.pass_time(name, max(stage.clock[name], stage.due[name]["heartbeat"]))
        return ""

    def tick_election(self, name: str) -> str:
        """An election time-out passes at a member: a leader until it asks who heard it, others the shortest one."""
        stage = self.stage
        until = stage.clock[name] + int(stage.config.election_min_s * NS_PER_S)
        if "quorum" in stage.timers[name]:
            until = stage.due[name]["quorum"]
        stage.pass_time(name, until)
        return ""

    def sync(self, name: str) -> str:
        """All that a member has written becomes durable; what waited for that leaves."""
        self.stage.sync(name)
        return ""

    def deliver_msgs(self, *names: str, drop: str = "") -> str:
        """Deliver what is on its way to ``names``, and drop what is on its way to those in ``drop``."""
        stage = self.stage
        letters, stage.post = stage.post, []
        for letter in letters:
            if letter[1] in names:
                stage.give(letter[1], (p.MESSAGE, "", letter[0], letter[2]))
            elif letter[1] not in _names(drop):
                stage.post.append(letter)
        return ""

    def stabilize(self, *names: str) -> str:
        """Sync these members (all) and deliver what is on its way to them, until all is done; the rest stays."""
        group = names or self.stage.names
        for _ in range(1000):
            for name in group:
                self.stage.sync(name)
            writes = any(self.stage.disk[name] for name in group)
            if not writes and not any(letter[1] in group for letter in self.stage.post):
                return ""
            self.deliver_msgs(*group)
        raise AssertionError("messages breed: a thousand rounds did not end")

    # -- what can be seen ------------------------------------------------------------------------------------------

    def raft_log(self, *names: str, form: str = "entries") -> str:
        """The entries of a member after its snapshot, ``term/index command``; or each member's terms in one line."""
        if form == "terms":
            return "\n".join(f"{n} {' '.join(str(term) for term, _ in self.stage.log(n))}" for n in names)
        (name,) = names
        log = self.stage.raft(name).log
        lines = [f"snapshot {log.start_term}/{log.start}"] * (log.start > 0)
        for index, (term, command) in enumerate(log.entries, start=log.start + 1):
            lines.append(f"{term}/{index} {_shown(command)}".rstrip())
        return "\n".join(lines)

    def raft_state(self, *names: str) -> str:
        """Role, term, leader and commit index of each member, and whether it votes."""
        lines = []
        for name in names or self.stage.names:
            raft = self.stage.raft(name)
            learns = name in raft.configurations.current.learners
            vote = "voter" if raft.voting else "learner" if learns else "outside"
            lines.append(f"{name} {raft.role} term={raft.term} leader={raft.leader} commit={raft.commit} {vote}")
        return "\n".join(lines)

    def status(self, name: str) -> str:
        """How a leader sees the others: what each is known to hold, and how it is sent more."""
        progress = self.stage.raft(name).progress
        return "\n".join(f"{peer} {one.state} match={one.match}" for peer, one in sorted(progress.items()))

    def applied(self, name: str) -> str:
        """The commands that a member's state machine holds."""
        return " ".join(command.decode() for command in self.stage.machine(name).commands)

    def messages(self, name: str) -> str:
        """The kinds of messages on their way to a member."""
        return "\n".join(f"{s} {type(message(data)).__name__}" for s, to, data in self.stage.post if to == name)


def _names(joined: str) -> tuple[str, ...]:
    return tuple(joined.split(",")) if joined else ()


def _shown(command: bytes) -> str:
    return shown(membership_in(command)) if command.startswith(MARK) else command.decode()


def shown(membership: Membership) -> str:
    """Return a membership in one line: incoming voters, ``&&`` the outgoing ones, learners, those who will be."""
    voters = membership.voters
    text = f"({' '.join(voters.incoming)})" + (f"&&({' '.join(voters.outgoing)})" if voters.joint else "")
    for word, names in (("learners", membership.learners), ("learners_next", membership.learners_next)):
        text += f" {word}({' '.join(names)})" if names else ""
    return text
