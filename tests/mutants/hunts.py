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
        "R7: what a follower is known to hold goes back",
        "R7: a follower is sent anew what it is known to hold",
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
        "B9: the highest certificate is not remembered through a crash (two-chain)",
        "B9: the last vote is not remembered through a crash",
        "B10: what may be lost is said once (polka not said again)",
        "B11: a peer's checkpoint is taken over unproved",
        "B11: a peer's height is believed",
        "B11: a peer's blocks are taken for those that were asked for",
        "B12: the view is not in what a vote signs",
        "B13: proposers' timestamps need clocks that agree",
        "G05: agreement that always says yes: one voice is a quorum",
        "G39: duplicates are taken for contradictions",
    ),
    "hotstuff3": (
        "B3: a vote without a look at the lock (three-chain)",
        "B9: the lock is not remembered through a crash (three-chain)",
    ),
    "pbft": (
        "B7: a pre-prepare takes the place of another",
        "B8: a new view drops what was prepared",
        "B8: what is said of views to come is kept without bound",
    ),
    "council": (
        "B12: the epoch is not in what a vote signs",
        "G26: a grant is credited twice and not added to the supply",
    ),
    "council_raft": ("R1: a leader changes the members before an entry of its term is committed",),
    "village": (
        "G19: the total is never credited",
        "G27: a report that comes again is credited again",
    ),
}

ARENA: dict[str, str] = {key: arena for arena, keys in _KEYS.items() for key in keys}
"""Mutant to the arena whose nodes can have it and whose promises are nearest to what it breaks."""

UNMET: dict[str, str] = {
    "R1: a leader changes the members before an entry of its term is committed": (
        "two leaders in a row must each begin a change of one member before an entry of its term is committed, and a "
        "council asks for one change an epoch"
    ),
    "R2: a leader commits entries of earlier terms by counting (figure 8)": (
        "an Append carries all that a follower lacks, so that who gets the old entries gets the new leader's own with "
        "them: only with one entry a message can the old ones alone reach a majority"
    ),
    "R5: logs are compared by length before term": (
        "a leader that was cut off must hold more entries than were committed since, and be the first to ask for votes "
        "when the newer leader fails"
    ),
    "R7: what a follower is known to hold goes back": (
        "no check of an arena asks what a leader knows of its followers, and the next answer puts it right"
    ),
    "R10: an answer of an earlier term counts": (
        "one answer must outlast two elections, after which its index holds another entry and the same member leads"
    ),
    "R11: partial connectivity: leaders change for ever without PreVote and CheckQuorum": (
        "what must come about is asked when the faults are over, and all links are whole then"
    ),
    "R12: no jitter in election time-outs": (
        "links and disks have jitter of their own there, which sets equal time-outs apart"
    ),
    "R14: candidates are not totally ordered": (
        "no majority may do without the two whose logs are incomparable; after the faults all five are up"
    ),
    "R15: taking over a state cuts the log behind it (in VR Revisited: before it is there)": (
        "a snapshot must arrive late at a member that has acknowledged later entries; it is sent only to who lacks them"
    ),
    "B1: two certificates commit although views lie between them (Fast-HotStuff)": (
        "certificates must be hidden from one member in turn for four views, as no behaviour of the arena's liars does"
    ),
    "B3: a vote without a look at the lock (three-chain)": (
        "correct leaders build on the newest certificate, and the liar that shows old ones signs nothing anew"
    ),
    "B3: a vote without a look at what the time-outs report (two-chain)": (
        "correct leaders build on the newest certificate, and the liar that shows old ones signs nothing anew"
    ),
    "B4: two phases with a lock that one member alone knows": (
        "the lock must stay one member's secret view after view, while a fourth member votes for nothing"
    ),
    "B8: time-outs do not grow": "links are faster than the shortest time-out once the faults are over",
    "B8: what is said of views to come is kept without bound": "no arena asks how much is held (L5)",
    "B11: a peer's checkpoint is taken over unproved": "no liar of the arena sends a state",
    "B1: the same in a small Fast-HotStuff, by the published schedule": "a protocol of its own, which no arena mounts",
    "B12: the log's name is not in what a vote signs": "there is one log in an arena",
    "B12: the epoch is not in what a vote signs": (
        "a block's digest has its epoch, and no liar shows the votes of one epoch as a certificate of another"
    ),
    "B12: the view is not in what a vote signs": (
        "a block's digest has its view, and no liar shows the votes of one view as a certificate of another"
    ),
    "B13: proposers' timestamps need clocks that agree": "an arena's clocks are right again before liveness is asked",
    "M1: slow members have healthy ones declared dead (SWIM without Lifeguard)": "no arena is one of failure detectors",
    "G02: nothing hears a heartbeat": "no arena is one of failure detectors",
    "G14: a fault is never cleared": "no arena is one of failure detectors",
    "G19: the multiplier is always 2": "no arena asks for the documented rates",
    "G24: two answers settle, equal or not": "nobody lies in the arena of villages, and nothing is audited there",
    "G26: a fee overdraws, and vanishes": "nobody pays in an arena",
    "G26: what was signed once counts again": "nobody pays in an arena",
    "G26: a bound in one unit is compared in another": "no arena's run earns as much as the supply",
    "G27: the caller supplies its own measure": "nobody lies in the arena of villages",
}
"""Why no hunt met a mutant: what chance would have to bring about, or what no arena asks or has."""
