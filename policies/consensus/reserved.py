"""What only the leader may ask: commands that a log takes from nobody but whoever leads it.

A log orders what any member asks, and bears liars among them, so that a state machine cannot tell whose wish a command
was. Some commands are nobody's to ask but the leader's, which answers for them: it is given up if it does not do what
it owes. A log is told which these are by a predicate, and knows no more of them. Under a protocol that bears liars

- an honest member drops such commands when others ask for them, even of everybody, and in whosever name: none gets into
  its batches, and it gives no leader up for not ordering them;
- one that does not lead refuses to ask for them, and forgets its own that wait when it leads no more. What they were
  to do the next leader decides anew.

So whatever of these is ordered was a leader's wish, while it led. A protocol that trusts its members reserves nothing.
"""

from __future__ import annotations

from collections.abc import Callable

Reserved = Callable[[bytes], bool]
"""Whether a command is the leader's alone; it is asked of each command that somebody asks for."""

REFUSED = "a command that is its leader's alone"
"""Why one is dropped."""


def nothing(command: bytes) -> bool:
    """Reserve nothing."""
    return False
