"""What a leader knows of one peer: how far its log agrees, and how much more may be sent before it answers.

Three states, as in etcd-io/raft: a peer is *probed* until it is known where its log agrees, one message at a time;
then entries are *replicated* to it, up to a window of messages that are not answered yet; and if what it needs is
compacted away, a *snapshot* is sent first, chunk by chunk.
"""

from __future__ import annotations

PROBE, REPLICATE, SNAPSHOT = "probe", "replicate", "snapshot"


class Progress:
    """One peer, seen by the leader of one term.

    Attributes:
        state: `PROBE`, `REPLICATE` or `SNAPSHOT`.
        match: the highest index that the peer is known to hold durably.
        next: the first index to send it.
        in_flight: last indices of the messages with entries that are not answered yet, oldest first.
        waiting: a probe, or a chunk, is not answered yet.
        beats: heartbeats since that was sent.
        snapshot: index of the snapshot that is being sent, and of which it has ``offset`` bytes.
        heard: it has answered since the leader last asked whether a quorum hears it.
        round: the latest round of reads that it has answered (`policies.consensus.raft.reads`).
    """

    def __init__(self, next_index: int) -> None:
        self.state = PROBE
        self.match, self.next = 0, next_index
        self.in_flight: list[int] = []
        self.waiting = False
        self.beats = 0
        self.snapshot = self.offset = 0
        self.heard = True  # a new leader, and a new member, are given one time-out
        self.round = 0

    def may_send(self, window: int) -> bool:
        """Whether entries may be sent now."""
        if self.state == REPLICATE:
            return len(self.in_flight) < window
        return not self.waiting

    def sent(self, last: int) -> None:
        """Entries up to ``last`` were sent; a loss shows as a refusal of what is sent after them."""
        if self.state == REPLICATE:
            self.in_flight.append(last)
            self.next = last + 1
        else:
            self.waiting = True

    def agreed(self, index: int) -> bool:
        """It holds everything up to ``index``; return whether that is news of what it holds."""
        in_flight = self.in_flight
        while in_flight and in_flight[0] <= index:
            in_flight.pop(0)
        news = index > self.match
        if news:
            self.match = index
        if self.state == REPLICATE:
            if index >= self.next:
                self.next = index + 1
        elif self.state == PROBE or self.match >= self.snapshot:
            self.state, self.waiting, self.next = REPLICATE, False, self.match + 1
            in_flight.clear()
        return news

    def refused(self, hint: int) -> bool:
        """It refused, and may agree up to ``hint``; return whether that is news of where to probe."""
        hint = max(self.match, hint)
        if self.state == SNAPSHOT or (self.state == PROBE and hint + 1 >= self.next):
            return False  # late, or answered already
        self.state, self.waiting, self.next = PROBE, False, hint + 1
        self.in_flight.clear()
        return True

    def send_snapshot(self, index: int) -> None:
        """Send the snapshot at ``index`` from its first byte."""
        self.state, self.snapshot, self.offset, self.waiting = SNAPSHOT, index, 0, False
        self.in_flight.clear()

    def received(self, offset: int) -> bool:
        """It has ``offset`` bytes of the snapshot; return whether the chunk there is to be sent.

        A copy of an earlier answer is no reason to send again, or copies would breed; none at all is: it forgot.
        """
        if offset <= self.offset and offset > 0:
            return False
        self.offset, self.waiting = offset, False
        return True
