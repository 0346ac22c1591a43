"""The catalogue of Byzantine behaviours, row by row, and where each stands over real sockets.

A row names ways of lying that one of four members shows in HotStuff (`LIES`) and in PBFT (`LIARS`), simulated and as
a real node (`test_committee_liars`), or says which other test has it, or why none can.
"""

from __future__ import annotations

from typing import NamedTuple

LIARS = "tests/real_backends/test_committee_liars.py"
VILLAGE = "tests/real_backends/test_liars_at_work.py"
COMMITTEES = "tests/real_backends/test_committees.py"
SEVEN = "tests/real_backends/test_seven_processes.py"


class Row(NamedTuple):
    """One parameter of a behaviour.

    Attributes:
        behaviour, what: as in the catalogue.
        hotstuff, pbft: the ways of lying that show it.
        elsewhere: a test of real nodes that has it, as pytest names it.
        why: what is to be said of it; of a protocol without a way to lie so, the reason.
    """

    behaviour: str
    what: str
    hotstuff: tuple[str, ...] = ()
    pbft: tuple[str, ...] = ()
    elsewhere: str = ""
    why: str = ""


CATALOGUE = (
    Row("silence, omission", "all", ("silent", "all at once"), ("silent", "half silent")),
    Row("silence, omission", "by kind", ("proposes to nobody", "withholds votes"), ("withholds commits",)),
    Row("silence, omission", "by peer", ("silent to one",), ("silent to one",)),
    Row("silence, omission", "receive side", ("deaf for a while", "orders no command of others"), ("deaf",)),
    Row("silence, omission", "from time t", ("falls silent",), ("falls silent",)),
    Row(
        "crash, amnesia", "lose what was not synced",
        elsewhere=f"{COMMITTEES}::test_leaders_are_killed_many_times_in_a_row",
        why="SIGKILL of whoever leads; what the kernel holds survives it",
    ),
    Row(
        "crash, amnesia", "lose what the disk said was synced, or tear it",
        elsewhere=f"{LIARS}::test_a_committee_goes_on_beside_a_disk_that_loses_what_it_said_was_durable",
        why="HotStuff and PBFT: SIGKILL four times over, after each of which the member's last 24 records are gone, or "
        "all but half of the first; it forgets what it signed, is safe and live beside the others, and catches up",
    ),
    Row("crash, amnesia", "lose all", ("forgets all",), ("forgets all",)),
    Row("crash, amnesia", "restart with old state", ("old state",), ("old state",)),
    Row("equivocation", "twins of one identity", ("twins", "twins later"), ("twins",)),
    Row("equivocation", "split payload by peer", ("split proposals", "split votes"), ("splits places", "splits votes")),
    Row("withholding", "proposal", ("withholds its newest proposal",), ("withholds proposals", "withholds the newest")),
    Row(
        "withholding", "certificate, decide", ("withholds certificates",), ("withholds commits",),
        why="a block is proposed whole and carries the certificate that decides another: it has no parts to keep",
    ),
    Row(
        "withholding", "newest lock", ("withholds its newest lock",), ("withholds the newest",),
        why="PBFT's lock is the prepared set of a view change; its primary keeps new views back",
    ),
    Row("replay", "same view", ("replay in the same view",), ("replays in the same view",)),
    Row("replay", "old view", ("replay",), ("replays", "replays what it heard")),
    Row(
        "replay", "old epoch", ("earlier epoch",),
        why="numbers of an earlier epoch, signed anew; PBFT's epoch is part of its view: `earlier views` has it",
    ),
    Row(
        "replay", "across a change of epoch",
        elsewhere=f"{LIARS}::test_a_committee_goes_on_beside_who_replays_what_was_signed_in_an_earlier_epoch",
        why="HotStuff and PBFT: what it and the others signed in the first epoch, through two more of the same four in "
        "another order; a hundred times and more it came to honest members, and changed nothing",
    ),
    Row("replay", "out of order", ("reorder",), ("reorders",)),
    Row("delay", "up to a bound", ("delay",), ("delays",)),
    Row("delay", "just below the time-out", ("delay just below the time-out",), ("delays just below the time-out",)),
    Row("delay", "asymmetric", ("delay to one",), ("delays one",)),
    Row("corrupt", "a field + 1", ("changed height",), ("places + 1",)),
    Row("corrupt", "a field - 1", ("earlier views",), ("earlier views",)),
    Row("corrupt", "a digest", ("other block", "old certificate", "false blocks"), ("other digests", "old digests")),
    Row("corrupt", "not signed again", ("next views, unsigned", "changed commands"), ("next views, unsigned",)),
    Row("corrupt", "malformed", ("malformed",), ("garbage", "status lies")),
    Row("impersonation", "wrong key", ("wrong key", "impersonate"), ("wrong key", "impersonates")),
    Row(
        "impersonation", "of a peer, to the transport", elsewhere="tests/real_backends/test_tls.py",
        why="who shows another's name has no key of its certificate: the handshake fails",
    ),
    Row("forged certificate", "duplicate signers", ("certificate of one signer", "forged time-outs"),
        ("duplicate signers", "view of duplicates")),
    Row("forged certificate", "below quorum", ("certificate below quorum",), ("half a quorum",)),
    Row("sybil", "ids without keys", ("sybil",), ("sybil",)),
    Row("sybil", "ids with keys, beyond f", elsewhere=f"{LIARS}::test_two_of_four_who_share_keys_are_named",
        why="HotStuff; **evidence** names both, and agreement is not asked for"),
    Row("collusion", "f nodes share keys and a plan", elsewhere=f"{SEVEN}::test_two_processes_of_seven_plan_together",
        why="two of seven processes, killed on the way, HotStuff and PBFT: split proposals with votes for both halves, "
        "and keys that wander; also in one process, `test_committee_liars.py::test_two_of_seven_plan_together`"),
    Row("view changes", "spam", ("flood of views", "flood of terms"), ("floods views", "always impatient")),
    Row("view changes", "jump by 1000", ("jump of views",), ("jumps views", "floods places")),
    Row("checkpoint lies", "wrong digest", ("false checkpoints",), ("checkpoint lies",)),
    Row("checkpoint lies", "future index", ("checkpoints of the future",), ("checkpoint jumps",)),
    Row("checkpoint lies", "conflicting", ("split checkpoints",), ("splits checkpoints",)),
    Row("checkpoint lies", "state in chunks", ("false states",), ("false states",)),
    Row("clock skew", "linear", ("skewed clock",), ("clock",)),
    Row("clock skew", "periodic, non-ideal", ("swinging clock",), ("swinging clock",)),
    Row(
        "clock skew", "step", ("stepped clock",), ("stepped clock",),
        why="no member looks at a wall clock: an honest one does the same",
    ),
    Row(
        "conflicting votes", "nullify and finalize", ("twins",), ("twins",),
        why="the twin that is cut off gives up the view in which the other votes, both under one key",
    ),
    Row("conflicting votes", "in one view", ("double votes",), ("double votes", "double proposals")),
    Row("conflicting votes", "an old certificate with a new vote", ("high certificate of old",),
        why="PBFT's votes carry no certificate"),
    Row("conflicting votes", "next epoch", ("next epoch",),
        why="PBFT's epoch is part of its view: `jumps views` has it"),
    Row("wrong compute", "votes without executing", elsewhere=f"{VILLAGE}::test_a_real_liar_at_work[lazy]",
        why="made-up outputs lose the comparison: evicted, unpaid"),
    Row("wrong compute", "wrong digest", elsewhere=f"{VILLAGE}::test_a_real_liar_at_work[wrong_results]",
        why="outvoted three times: evicted, unpaid"),
    Row("wrong compute", "claims resources it lacks", elsewhere=f"{VILLAGE}::test_a_real_liar_at_work[overclaim]",
        why="does what it is given, later than it said: answers right, paid for them"),
    Row("wrong compute", "free-rides in harvest", elsewhere=f"{VILLAGE}::test_a_real_liar_at_work[free_ride]",
        why="what it gives up others answer: unpaid"),
    Row("wrong compute", "cheaper model", elsewhere="tests/real_backends/test_verification.py",
        why="real executors with other layers, weights or caches, found by a check of their commitment"),
    Row("wrong compute", "claims rewards", elsewhere=f"{VILLAGE}::test_a_real_liar_at_work[forge_receipts]",
        why="the leader notes `bad_report`: unpaid"),
    Row("partial connectivity", "the five-server graph",
        elsewhere=f"{COMMITTEES}::test_a_leader_stays_where_not_all_hear_all",
        why="Raft, with cuts in the transport"),
)  # fmt: skip
