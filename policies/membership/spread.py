"""Gossip dissemination: news rides on messages that are sent anyway, a bounded number of times and bytes (SWIM 4.1)."""

from __future__ import annotations

from math import ceil, log10

from policies.membership.messages import Update
from policies.wire import encode


class News:
    """Updates that are still passed on: at most one a member, the newest; those passed on least go first.

    Args:
        packet_bytes: bound of the encoded updates of one message.
        retransmit_mult: times ceil(log10(n + 1)): how often each is passed on, so that all but a vanishing share of a
            group of n has heard it (SWIM, section 4.1; memberlist's ``retransmitLimit``).
    """

    def __init__(self, packet_bytes: int, retransmit_mult: int) -> None:
        self.packet_bytes, self.retransmit_mult = packet_bytes, retransmit_mult
        self.waiting: dict[str, tuple[Update, int, int]] = {}  # member to (update, its bytes, times passed on)

    def add(self, update: Update) -> None:
        """Pass an update on, in place of any older one about its member; not one that fits no message."""
        size = len(encode(update))
        if size <= self.packet_bytes:
            self.waiting[update[0]] = (update, size, 0)
        else:
            self.waiting.pop(update[0], None)

    def take(self, group_size: int, first: Update | None = None) -> tuple[Update, ...]:
        """Return what the next message carries.

        Args:
            group_size: members not held dead, n.
            first: goes along in any case, uncounted (Lifeguard's buddy system).
        """
        limit = self.retransmit_mult * ceil(log10(group_size + 1))
        taken, room = ([first] if first else []), self.packet_bytes - (len(encode(first)) if first else 0)
        for member in sorted(self.waiting, key=lambda name: self.waiting[name][2]):
            update, size, times = self.waiting[member]
            if size > room:
                break
            if first is not None and member == first[0]:
                continue
            room -= size
            taken.append(update)
            if times + 1 >= limit:
                del self.waiting[member]
            else:
                self.waiting[member] = (update, size, times + 1)
        return tuple(taken)
