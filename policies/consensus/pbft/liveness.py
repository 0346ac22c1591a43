"""What keeps PBFT going: requests that are not forgotten, patience that grows, and bounded memory of what is ahead.

Nothing in this file can make two members disagree; it can only make them wait (sections 4.1, 4.4 and 4.5.2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from policies.consensus.pbft.epochs import MARK
from policies.consensus.pbft.messages import Batch, Item, PrePrepare, Request, ViewChange, digest_of
from policies.port import Port

DONE_MAX = 4096
"""Executed requests that are remembered, so that a late copy is not ordered again (our own bound; who is beyond it is
ordered twice, which the state machine's sessions see)."""
BACKOFF_MAX = 10
"""Doublings of the view-change time-out at most: a factor of 1024 (our own bound)."""
PRIMARY = b"primary"
"""What is awaited while nothing is to be done: that the primary is heard, within two time-outs."""
AHEAD_MAX = 64
"""Pre-prepares of later views kept for each sender (our own bound): a liar can only displace its own."""

SENDER_BYTES_MAX = 16 << 20
"""Bytes of requests kept from any one origin: 16 of the largest (our own bound)."""


class Waiting:
    """A request in the pool."""

    def __init__(self, request: Request, since: int) -> None:
        self.request, self.since = request, since
        self.proposed = -1  # the view in which this member, its primary, gave it a place


class Pool:
    """Requests that wait for their place, oldest first.

    Each origin may have so many, and of so many bytes, so that no member's flood crowds out another's request; as all
    are executed in the order they came, none waits for ever behind others (fairness as in section 4.1's first-in
    first-out).
    """

    def __init__(self, each_max: int) -> None:
        self.each_max = each_max
        self.waiting: dict[bytes, Waiting] = {}
        self.queue: dict[bytes, None] = {}  # of these, what this member as the primary has not proposed in its view
        self.held: dict[str, int] = {}
        self.size: dict[str, int] = {}  # bytes of commands held by origin
        self.asked: set[tuple[str, bytes]] = set()  # (origin, command) of what waits
        self.done: dict[bytes, None] = {}

    def add(self, request: Request, now: int) -> bool:
        """Take a request; returns whether it is new and its origin had room."""
        key = digest_of((request.origin, request.number, request.command))
        if key in self.done:
            return False
        if key in self.waiting:
            if request.signature:
                self.waiting[key].request = request
            return False
        held = self.held.get(request.origin, 0)
        size = self.size.get(request.origin, 0) + len(request.command)
        if held >= self.each_max or size > SENDER_BYTES_MAX:
            return False
        self.held[request.origin], self.size[request.origin] = held + 1, size
        self.asked.add((request.origin, request.command))
        self.waiting[key] = Waiting(request, now)
        self.queue[key] = None
        return True

    def executed(self, item: Item) -> None:
        """A request has happened."""
        key = digest_of(item)
        self.done[key] = None
        if len(self.done) > DONE_MAX:
            del self.done[next(iter(self.done))]
        self._drop(key)

    def _drop(self, key: bytes) -> None:
        self.queue.pop(key, None)
        if (gone := self.waiting.pop(key, None)) is not None:
            self.held[gone.request.origin] -= 1
            self.size[gone.request.origin] -= len(gone.request.command)
            self.asked.discard((gone.request.origin, gone.request.command))

    def oldest(self) -> bytes:
        """Return the name of the request that has waited longest, or nothing."""
        return next(iter(self.waiting), b"")

    def take(self, count_max: int, bytes_max: int, idle: bool = True) -> Batch:
        """Return the next batch to propose; empty if nothing waits that was not proposed in this view.

        A change of members stands alone, and waits until nothing else is under way (``idle``).
        """
        batch, size = list[Item](), 0
        for key in self.queue:
            request = self.waiting[key].request
            size += len(request.command)
            if batch and (size > bytes_max or len(batch) >= count_max):
                break
            if request.command.startswith(MARK):
                if idle and not batch:
                    batch.append((request.origin, request.number, request.command))
                break
            batch.append((request.origin, request.number, request.command))
        for item in batch:
            del self.queue[digest_of(item)]
        return tuple(batch)

    def own(self, me: str, before: int) -> Iterator[Request]:
        """Yield this member's requests that came before a time."""
        return (e.request for e in self.waiting.values() if e.request.origin == me and e.since <= before)

    def asked_alone(self, key: bytes, me: str) -> Request | None:
        """Return the request of this name if it is this member's own and only its primary knows of it."""
        entry = self.waiting.get(key)
        own = entry is not None and entry.request.origin == me and not entry.request.signature
        return entry.request if entry is not None and own else None

    def changing(self, command: bytes = b"") -> bool:
        """Return whether another change of members than ``command`` waits."""
        commands = (entry.request.command for entry in self.waiting.values())
        return any(c.startswith(MARK) and c != command for c in commands)

    def forget_if(self, unwanted: Callable[[bytes], bool]) -> None:
        """Forget the commands that are unwanted."""
        for key, entry in list(self.waiting.items()):
            if unwanted(entry.request.command):
                self._drop(key)

    def forget(self) -> None:
        """Forget all that waits."""
        for key in list(self.waiting):
            self._drop(key)

    def begin_epoch(self, origins: tuple[str, ...]) -> None:
        """Forget changes, which were of the epoch before, and what others than ``origins`` asked."""
        for key, entry in list(self.waiting.items()):
            if entry.request.origin not in origins or entry.request.command.startswith(MARK):
                self._drop(key)

    def begin_view(self, me: str) -> None:
        """Forget what others asked the last primary alone, for they will ask the next one; all else waits again."""
        for key, entry in list(self.waiting.items()):
            if entry.request.origin != me and not entry.request.signature:
                self._drop(key)
        self.queue = dict.fromkeys(self.waiting)


class Patience:
    """One timer: progress is due. What it waits for is named, so that progress elsewhere does not calm it."""

    def __init__(self, timeout_ns: int) -> None:
        self.timeout_ns = timeout_ns
        self.failures = 0  # views in a row that ended before anything was executed
        self.awaited = b""

    def begin(self, port: Port) -> None:
        """Take the timer."""
        self.port = port

    def wait_for(self, awaited: bytes) -> None:
        """Arm the timer for something else than before, or disarm it if there is nothing."""
        if awaited == self.awaited:
            return
        self.awaited = awaited
        if awaited:
            self.again()
        else:
            self.port.cancel_timer("patience")

    def again(self) -> None:
        """Give what is awaited the full time, twice as long after each view that failed (section 4.5.2)."""
        doubled = min(self.failures, BACKOFF_MAX) + (self.awaited == PRIMARY)
        self.port.set_timer("patience", self.timeout_ns << doubled)


class Doubts:
    """Who would leave which view: a member leaves an active view only with a quorum, so that one which alone hears
    nothing is not stuck in a view that nobody else moves to. The paper has each leave on its own; this is the stop
    message of Sousa and Bessani, "From Byzantine consensus to BFT state machine replication" (EDCC 2012)."""

    def __init__(self) -> None:
        self.given_up: dict[str, int] = {}  # member to the last view that it has given up
        self.impatient = False  # this member with its view
        self.for_good = -1  # the last view that the state machine has given up: no progress makes up for that

    def calm(self, view: int) -> None:
        """There is progress in a view."""
        self.impatient = view == self.for_good

    def hear(self, sender: str, view: int, impatient: bool) -> None:
        """Note what another says of its view; whoever is in a view has given all earlier ones up."""
        self.given_up[sender] = view if impatient else view - 1

    def others(self, view: int) -> int:
        """Return how many others have given ``view`` up."""
        return sum(given_up >= view for given_up in self.given_up.values())


class Ahead:
    """What members said of views that this member has not reached: bounded for each of them."""

    def __init__(self) -> None:
        self.changes: dict[str, ViewChange] = {}  # each member's for the highest view
        self.proposals: dict[str, deque[PrePrepare]] = {}

    def change(self, change: ViewChange) -> bool:
        """Keep a member's signed view change if it is its newest."""
        known = self.changes.get(change.member)
        if known is not None and known.view > change.view:
            return False
        self.changes[change.member] = change
        return True

    def for_view(self, view: int) -> list[ViewChange]:
        """Return the view changes to exactly this view, in order of member."""
        return [c for _, c in sorted(self.changes.items()) if c.view == view]

    def moving_to(self, view: int) -> int:
        """Return how many members move to this view, or have given it up as well: they will not come back to it."""
        return sum(change.view >= view for change in self.changes.values())

    def pulls_to(self, view: int, faults: int) -> int:
        """Return the view to join because more members than can lie have left ``view``, or -1 (section 4.5.2)."""
        higher = sorted(c.view for c in self.changes.values() if c.view > view)
        return higher[0] if len(higher) > faults else -1

    def begin_epoch(self, members: tuple[str, ...]) -> None:
        """Forget what was of the epoch before. Proposals stay: whoever was there earlier may have made some."""
        self.changes = {}
        self.proposals = {name: made for name, made in self.proposals.items() if name in members}

    def propose(self, sender: str, m: PrePrepare) -> None:
        """Keep a pre-prepare of a later view."""
        self.proposals.setdefault(sender, deque(maxlen=AHEAD_MAX)).append(m)

    def proposals_of(self, primary: str, view: int) -> list[PrePrepare]:
        """Return what the primary of a view that begins has proposed already; older ones are forgotten."""
        kept = [m for m in self.proposals.pop(primary, ()) if m.view >= view]
        return [m for m in kept if m.view == view]
