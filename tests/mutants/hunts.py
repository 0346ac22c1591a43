"""Which arena of the hunt may meet a mutant, by the mutant's key."""

from __future__ import annotations

_KEYS: dict[str, tuple[str, ...]] = {
    "raft": (
        "R2: a leader commits entries of earlier terms by counting (figure 8)",
        "R3: a vote leaves before it is durable",
        "R3: an acknowledgement leaves before it is durable",
        "R4: an old Append cuts what follows it",
        "R5: logs are compared by length before term",
        "R5: a vote does not look at the log",
        "R7: a follower's commit index goes back",
        "R8: a member votes for all who ask",
        "R8: half of the members elect a leader",
        "R9: the middle of unsorted progress is taken for what a quorum holds",
        "R10: an answer of an earlier term counts",
        "R11: partial connectivity: leaders change for ever without PreVote and CheckQuorum",
        "R12: no jitter in election time-outs",
        "R13: a completed write counts for those after it",
        "R14: candidates are not totally ordered",
    ),
    "registry": (
        "R6: a read's quorum is a majority less one",
        "R6: a leader serves reads without asking whether it still leads",
        "R6: a new leader serves reads before it has committed anything of its term",
        "R6: a member answers reads from what it has applied (in the registry)",
        "R10: a snapshot below the commit index is installed",
        "R15: taking over a state cuts the log behind it (in VR Revisited: before it is there)",
        "B5: reads outside the log, by equal answers of a quorum",
    ),
    "hotstuff": (
        "B1: two certificates commit although views lie between them (Fast-HotStuff)",
        "B2: certificates are compared by height, not by view (in Streamlet: chains by round, not by height)",
        "B3: a vote without a look at what the time-outs report (two-chain)",
        "B3: a vote in a view that its voter gave up",
        "B3: 2f of 3f + 1 members are a quorum",
        "B3: a signer counts as often as it signs",
        "B4: two phases with a lock that one member alone knows",
        "B8: time-outs do not grow",
        "B9: the last vote is not remembered through a crash",
        "B10: what may be lost is said once (polka not said again)",
        "B11: a peer's checkpoint is taken over unproved",
        "B11: a peer's height is believed",
        "B12: the view is not in what a vote signs",
        "G05: agreement that always says yes: one voice is a quorum",
        "G39: duplicates are taken for contradictions",
    ),
    "hotstuff3": ("B3: a vote without a look at the lock (three-chain)",),
    "pbft": (
        "B7: a pre-prepare takes the place of another",
        "B8: a new view drops what was prepared",
        "B8: what is said of views to come is kept without bound",
    ),
    "village": (
        "G19: the total is never credited",
        "G26: a grant is credited twice and not added to the supply",
        "G27: a report that comes again is credited again",
    ),
}

ARENA: dict[str, str] = {key: arena for arena, keys in _KEYS.items() for key in keys}
"""Mutant to the arena whose nodes can have it and whose promises are nearest to what it breaks."""
