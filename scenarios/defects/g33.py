"""G33, message bus: a transport's False taken for success, and one breaker for all transports."""

from __future__ import annotations

from policies.transport.bus import Bus
from policies.transport.messages import Carried


class TakesFalseForSuccess(Bus):
    """Its predecessor's breaker counted exceptions only: a send that returned False was a success.

    So the breaker stays closed however often the transport says no. Breaks `promises.an_open_breaker_rests` between
    two nodes whose transport answers False, and `promises.acknowledged_is_delivered_at_the_end` with it.
    """

    def succeeded(self, answer: Carried) -> bool:
        """Return that no exception was raised."""
        return True


class SharesOneBreaker(Bus):
    """Its predecessor kept one breaker for the bus, so that one dead transport closed the way to all.

    Breaks `promises.delivered_in_time` among three nodes in reach of one another's radios whose long-range transport
    answers False: letters wait for its pause although the mesh would carry them.
    """

    def breaker_of(self, transport: str, to: str) -> tuple[str, str]:
        """Return the one breaker."""
        return "", ""
