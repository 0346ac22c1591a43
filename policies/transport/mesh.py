"""Mesh, the short-range transport: store, carry and forward among radio neighbours, with no internet and no map.

A letter is pushed to a few neighbours drawn at random, and each node that hears it first pushes it on. What is lost,
and whoever was away, is found by anti-entropy: in rounds every node tells a few random neighbours what it carries, and
they ask for what they lack. Pauses double while nothing is new and are short again when something is. This is epidemic
routing (Vahdat and Becker 2000) paced by Trickle (RFC 6206, section 4).

A copy counts its hops and makes no more than the limit. A node that carries a letter takes another copy only if that
came by fewer hops, so a letter goes round no loop and reaches every node within the limit of hops, even when its first
copy came the long way. The destination's acknowledgement spreads in the same manner and clears the letter out of the
nodes that carry it (as a vaccine: Haas and Small, IEEE/ACM Trans. Networking 14(1), 2006).

The origin's letter is durable from its acceptance on and offered until it is acknowledged or expires; copies carried
for others are not. A neighbour's word is believed: whoever forges an acknowledgement suppresses a letter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from policies.config import MeshConfig
from policies.port import NS_PER_S, Policy
from policies.transport import inbox as inboxes
from policies.transport.buffer import Buffer, Id, Packet
from policies.transport.inbox import Inbox, Verdict
from policies.transport.messages import EVERYONE, Carry, Heard, Post, Took
from policies.transport.outbox import ACKNOWLEDGED, DEAD, SPREAD, Bounds, Letter, Outbox
from policies.wire import Message

OFFERS_MAX = 64
"""Letters named in one `Have`, drawn at random if more are carried (our bound: some 3 kB, below one body)."""
ROUND = "round"
NEVER_S = float("inf")
"""The pause while there is nothing to offer."""

Hops = Annotated[int, Meta(ge=0, le=255)]


class Over(Message, frozen=True, tag="over"):
    """The letter is durable at its destination, or its origin gave it up. Has made ``hops`` hops once it arrives."""

    id: Id
    hops: Hops


class Have(Message, frozen=True, tag="have"):
    """I carry these, each after so many hops."""

    offers: tuple[tuple[Id, Hops], ...]


class Want(Message, frozen=True, tag="want"):
    """Send me these."""

    ids: tuple[Id, ...]


class Mesh(Policy):
    """One node of the mesh.

    Args:
        topology: radio neighbours by node. A node that is not named has none; what comes from elsewhere is dropped.
        config: hops, fan-out, pace and bounds.
        consumer: path of the policy that arriving letters are handed to, ``""`` for none.
    """

    messages = (Packet, Over, Have, Want)
    requests = (Post,)

    def __init__(
        self, topology: Mapping[str, Collection[str]], config: MeshConfig | None = None, consumer: str = ""
    ) -> None:
        self.topology, self.config, self.consumer = topology, config or MeshConfig(), consumer

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        """Go on offering the letters that are open; what was carried for others is gone."""
        config = self.config
        self.neighbours = tuple(sorted(self.topology.get(self.port.me, ())))
        bounds = Bounds(config.pending_max, config.body_max_bytes, config.ttl_s, broadcasts=True)
        self.outbox = Outbox(self.port, bounds, saved)
        self.inbox = Inbox(self.port, self.consumer, config.pending_max, saved)
        self.buffer = Buffer(config.pending_max)
        self.over: dict[Id, None] = {}  # letters known to have arrived, the longest known first
        self.pause_s = NEVER_S
        self._stir()

    def on_request(self, client: str, op_id: str, operation: Post) -> None:
        """A client posts a letter, or asks what became of it."""
        self._begin(self.outbox.request(client, op_id, operation))

    def on_local(self, sender: str, message: Any) -> None:
        """A local policy posts a letter, or has taken one."""
        if isinstance(message, Took):
            self.inbox.took(message.stream, message.number)
        elif isinstance(message, Carry):
            self._begin(self.outbox.carry(sender, message))

    def on_message(self, sender: str, message: Packet | Over | Have | Want) -> None:
        """A neighbour gives, acknowledges, offers or asks."""
        if sender not in self.neighbours:
            return
        match message:
            case Packet():
                self._take(sender, message)
            case Over():
                self._learn(message.id, message.hops, sender)
            case Have():
                wanted = tuple(name for name, hops in message.offers if self._lacks(sender, name, hops))
                if wanted:
                    self.port.send(sender, Want(wanted))
            case Want():
                for name in message.ids:
                    if (packet := self._carried(name)) and packet.hops < self.config.hops_max:
                        self.port.send(sender, self.onward(packet))
                self._stir()

    def on_timer(self, name: str) -> None:
        """A round of offers, or the consumer is to be reminded."""
        if name == inboxes.TIMER:
            self.inbox.remind()
        else:
            self._expire()
            self._offer()

    def on_durable(self, token: int) -> None:
        """What arrived is safe: hand it over."""
        self.inbox.durable(token)

    # -- whom to tell --------------------------------------------------------------------------------

    def pick(self, count: int, without: Collection[str] = ()) -> list[str]:
        """Return ``count`` neighbours, or all if they are fewer, every set of them equally likely."""
        left = [name for name in self.neighbours if name not in without]
        return [left.pop(self.port.rng.below(len(left))) for _ in range(min(count, len(left)))]

    def onward(self, packet: Packet) -> Packet:
        """Return the copy that makes the next hop."""
        return msgspec.structs.replace(packet, hops=packet.hops + 1)

    def _push(self, message: Message, to: str, via: str) -> None:
        """Send to ``fanout`` neighbours, none of which gave it; the one it is meant for is always among them."""
        fanout = self.config.fanout
        chosen = [to] if to in self.neighbours and to != via else []
        chosen += self.pick(fanout - len(chosen), without=(via, to))
        for name in chosen:
            self.port.send(name, message)

    # -- letters of this node ------------------------------------------------------------------------

    def _begin(self, letter: Letter | None) -> None:
        if letter is not None:
            self._push(self.onward(self._packet(letter)), letter.to, self.port.me)
            self._stir()

    def _packet(self, letter: Letter) -> Packet:
        name = Id(self.port.me, letter.to, self.outbox.epoch, letter.number)
        return Packet(name, self.outbox.floor(letter.to), letter.expires_wall_ns, 0, letter.body)

    def _expire(self) -> None:
        now = self.port.wall
        self.buffer.expire(now)
        for letter in [one for one in self.outbox if one.expires_wall_ns <= now]:
            if letter.to == EVERYONE:
                self.outbox.end(letter, SPREAD)
            else:
                self.outbox.end(letter, DEAD, "expired")

    # -- letters of others ---------------------------------------------------------------------------

    def _take(self, via: str, packet: Packet) -> None:
        name, hops = packet.id, packet.hops
        if packet.expires_wall_ns <= self.port.wall or hops > self.config.hops_max:
            return
        if name.origin not in self.port.peers:  # its own, or of a name made up: memory is kept for nodes only
            return
        if name in self.over:
            self.port.send(via, Over(name, 1))
        elif name.to == self.port.me:
            verdict = self.inbox.offer(*name, packet.floor, packet.body)
            if verdict is Verdict.NEW:
                self.port.decide("heard", Heard(name.letter, via))
            if verdict is not Verdict.FULL:
                self._learn(name, 0, "")
        elif self._improves(name, hops) and self._consume(packet):
            known = self.buffer.get(name) is not None
            if self.buffer.put(packet):
                self.port.decide("heard", Heard(name.letter, via))
                if not known and hops < self.config.hops_max:
                    self._push(self.onward(packet), name.to, via)
                self._stir()

    def _consume(self, packet: Packet) -> bool:
        """Take a broadcast for this node, too; returns False if it shall come again."""
        if packet.id.to != EVERYONE:
            return True
        return self.inbox.offer(*packet.id, packet.floor, packet.body) in (Verdict.NEW, Verdict.KNOWN)

    def _improves(self, name: Id, hops: int) -> bool:
        """Whether a copy after ``hops`` hops is of use here: to carry on, or, on its last hop, to hear."""
        known = self.buffer.get(name)
        if known is not None:
            return hops < known.hops
        return hops < self.config.hops_max or name.to == EVERYONE

    def _lacks(self, holder: str, name: Id, hops: int) -> bool:
        """Whether to ask ``holder`` for what it carries after ``hops`` hops; tells it if the letter is over."""
        own, mine = name.origin == self.port.me, name.to == self.port.me
        ended = own and name.epoch == self.outbox.epoch and self._own(name) is None
        if name in self.over or ended or (mine and self.inbox.has(*name)):
            self.port.send(holder, Over(name, 1))
            return False
        if own:
            return False
        if mine:
            return True
        heard = name.to == EVERYONE and self.inbox.has(*name)
        if self.buffer.full and self.buffer.get(name) is None and (heard or name.to != EVERYONE):
            return False  # a push may displace others; what is fetched in a round may not, or it would go to and fro
        return self._improves(name, hops + 1) and not (heard and hops + 1 >= self.config.hops_max)

    def _learn(self, name: Id, hops: int, via: str) -> None:
        """The letter has arrived: carry it no more, and let those know who may."""
        if name in self.over or name.to == EVERYONE or hops > self.config.hops_max:
            return
        self.over[name] = None
        if len(self.over) > self.config.cache_max:
            del self.over[next(iter(self.over))]
        self.buffer.drop(name)
        if letter := self._own(name):
            self.outbox.end(letter, ACKNOWLEDGED)
        if hops < self.config.hops_max:
            self._push(Over(name, hops + 1), name.origin, via)

    # -- rounds --------------------------------------------------------------------------------------

    def _own(self, name: Id) -> Letter | None:
        """Return this node's open letter of that name."""
        if (name.origin, name.epoch) != (self.port.me, self.outbox.epoch):
            return None
        return self.outbox.get(name.to, name.number)

    def _carried(self, name: Id) -> Packet | None:
        letter = self._own(name)
        return self._packet(letter) if letter is not None else self.buffer.get(name)

    def _offer(self) -> None:
        """Tell a few neighbours what there is; the next round comes later, and none while there is nothing."""
        carried = [*(self._packet(letter) for letter in self.outbox), *self.buffer]
        offers = [(p.id, p.hops) for p in carried if p.hops < self.config.hops_max]
        while len(offers) > OFFERS_MAX:
            offers.pop(self.port.rng.below(len(offers)))
        if offers:
            for name in self.pick(self.config.fanout):
                self.port.send(name, Have(tuple(offers)))
        if offers or len(self.buffer):
            self._arm(min(2 * self.pause_s, self.config.quiet_s))
        else:
            self.pause_s = NEVER_S

    def _stir(self) -> None:
        """Something is new: let rounds be short again."""
        if self.pause_s > self.config.gossip_s:
            self._arm(self.config.gossip_s)

    def _arm(self, pause_s: float) -> None:
        # At a random time in the second half of the pause (RFC 6206, section 4.2), so that rounds do not collide.
        self.pause_s = pause_s
        self.port.set_timer(ROUND, int(pause_s * self.port.rng.uniform(0.5, 1.0) * NS_PER_S))
