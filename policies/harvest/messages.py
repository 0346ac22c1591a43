"""What a harvest agent announces to checks and records."""

from __future__ import annotations

from policies.wire import Message


class Session(Message, frozen=True, tag="harvest_session"):
    """A session began, changed its shares, or ended (``on`` false, shares 0).

    ``state`` is an index into `policies.readings.HARVEST_STATES`.
    """

    on: bool
    compute_share: float
    memory_share: float
    state: int
