"""HotStuff and Jolteon: one Byzantine-fault-tolerant replicated log whose commit rule is a parameter.

``chain=3`` is classic chained HotStuff (Yin et al., PODC 2019). ``chain=2`` is Jolteon's two-chain rule, DiemBFT v4's
(Gelashvili et al., FC 2022), and not HotStuff-2's (Malkhi and Nayak 2023): HotStuff-2 opens a lock that only one member
knows by waiting for a maximal network delay after a change of view, Jolteon by a time-out certificate in which a quorum
reports its highest certificates. No member has to know the network's delay, and the certificate is what the pacemaker
makes anyhow.

With n members, f = (n - 1) // 3 of them may do anything. What was committed stays, whatever the network does; what is
asked for is committed once messages between correct members arrive within a time-out, which grows until they do.

The files, and what each is about:

- `safety`: when to vote, the lock, the commit rule. Whole, and nothing else has a say in it but
  `certificates` (what a quorum is, what is signed), `epoch` (who the members are) and `history` (who they were).
- `pacemaker`: which view we are in and when a leader is given up; `proposing`, `asking` and `pool`: what gets into
  blocks; `view_change`; `sync`, `catch_up`, `transfer` and `vouching`: fetching what we lack. Liveness.
- `tree` and `trunk`: blocks, and what of them is committed and told; `checkpoint`: forgetting them.
- `evidence`: two votes in one view, proved. `messages`: all that is said. `node`: the member, which composes these.

Reads go through the log as entries of their own. There is no read-only shortcut: in PBFT's, a client needs equal
answers from a quorum, and one faulty leader can keep correct members apart for as long as it likes, so that a correct
client never reads (Berger, Reiser and Bessani 2021, arXiv 2107.11144).

Every member must have the same configuration: members refuse blocks larger than their own ``batch_max`` allows.
"""

from __future__ import annotations

from policies.consensus.hotstuff.node import HotStuff

__all__ = ["HotStuff"]
