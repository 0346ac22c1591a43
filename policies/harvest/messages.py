"""What a harvest agent announces to checks and records."""

from __future__ import annotations

from policies.wire import Message


class Session(Message, frozen=True, tag="harvest_session"):
    """A session began, changed its shares, or ended (``on`` false).

    ``state`` is an index into `policies.readings.HARVEST_STATES`. After an orderly end (``draining``) the memory share
    is still held, and one more `Session` with no share at all tells when it is given back.
    """

    on: bool
    compute_share: float
    memory_share: float
    state: int


class HarvestReceipt(Message, frozen=True, tag="harvest_receipt"):
    """What one session lent, for its owner and whoever reads the record; no ledger does, as work alone is paid.

    ``compute_s`` is the integral of the compute share: seconds of the whole device. ``reason`` is an index into
    `policies.readings.HARVEST_STATES`: why the session ended; ``draining`` is an orderly end, by time or forecast.
    Times are seconds on the node's monotonic clock.
    """

    started_s: float
    ended_s: float
    compute_s: float
    reason: int
