"""The edge agent in a whole village node: between harvest and the worker, and no other family notices."""

from __future__ import annotations

from typing import Any

import msgspec

from models.inference import SHAPES
from policies import port as p
from policies import village
from policies.config import PolicyConfig
from policies.edge import EdgeAgent, EdgeWatch
from policies.port import NS_PER_S, Effect
from policies.readings import Row, Verdict
from policies.village import NodeSpec
from policies.wire import encode
from policies.work import Capability, Leave, Renew
from sim.keys import KeyRing

CAPABILITY = Capability(8e9, 0.01, 0.001, 0.001, 1e7, 0.01)
FINE = Row(True, 0.9, True, 30.0, 28.0, 28.0, True, False, 1e7, False, 3600.0, 120.0, 0.0, 8e9)
_renew: Any = msgspec.msgpack.Decoder(Renew | Leave).decode


def spec(me: str, *, edge: bool, dedicated: bool = False) -> NodeSpec:
    """Return a node of a village of three members and a phone."""
    committee = ("k1", "k2", "k3")
    config = PolicyConfig()
    return NodeSpec(
        me=me, peers=tuple(k for k in committee if k != me), committee=committee, seed=4, config=config,
        capability=CAPABILITY, card=village.card(SHAPES["llama-3.2-3b"], config), reading_ns=60 * NS_PER_S, edge=edge,
        dedicated=dedicated,
    )  # fmt: skip


def lived(me: str, *, edge: bool, dedicated: bool = False) -> list[tuple[Effect, ...]]:
    """Return the effects of the other families over an hour of verdicts, timers and saves; timers are theirs only."""
    cell = village.cell(spec(me, edge=edge, dedicated=dedicated), KeyRing(4).handle(me))
    timers: dict[tuple[str, str], tuple[int, int]] = {}
    found: list[tuple[Effect, ...]] = []
    waiting: list[Any] = [(0, (p.START, "", {}, 0))]
    for minute in range(60):
        verdict = Verdict(minute % 7 > 2, 0.5, 0.3, 1e6, 1)
        waiting.append((minute * 60 * NS_PER_S, (p.DECISION, "harvest", encode(verdict))))
    now = 0
    for _ in range(400):
        due = [(at, (p.TIMER, *key, generation)) for key, (at, generation) in timers.items()]
        if not waiting and not due:
            break
        at, given = min((*waiting, *due), key=lambda item: (item[0], repr(item[1])))
        if (at, given) in waiting:
            waiting.remove((at, given))
        else:
            del timers[(given[1], given[2])]  # type: ignore[arg-type]
        now = max(now, at)
        effects = [e for e in cell.step(now, now, given) if not e[1].startswith("edge")]
        found.append(tuple(effects))
        if edge and given[0] == p.START:
            cell.step(now, now, (p.READINGS, "edge", encode(FINE)))
        for effect in effects:
            if effect[0] == p.SET_TIMER:
                timers[(effect[1], effect[2])] = (effect[3], effect[4])
            elif effect[0] == p.CANCEL_TIMER:
                timers.pop((effect[1], effect[2]), None)
            elif effect[0] == p.SAVE:
                waiting.append((now, (p.DURABLE, effect[1], effect[2])))
    return found


def test_every_node_mounts_it_where_the_spec_says_so() -> None:
    """Devices the agent, members the watch as well; without the word nothing changes."""
    assert isinstance(village.node(spec("phone", edge=True))["edge"], EdgeAgent)
    assert "edge_watch" not in village.node(spec("phone", edge=True))
    assert isinstance(village.node(spec("k1", edge=True))["edge_watch"], EdgeWatch)
    assert {"edge", "edge_watch"}.isdisjoint(village.node(spec("k1", edge=False)))


def renewals(steps: list[tuple[Effect, ...]]) -> list[Capability]:
    """Return what the worker told the leader that it offers, in order."""
    sent = [_renew(e[3]) for step in steps for e in step if e[0] == p.SEND and e[1] == "worker"]
    return [message.capability for message in sent if isinstance(message, Renew)]


def test_where_harvest_is_the_narrower_nobody_else_notices() -> None:
    """On a member and a machine set aside, both fine, the other families' effects are the same with it and without."""
    for me in ("k1", "box"):
        assert lived(me, edge=True, dedicated=True) == lived(me, edge=False, dedicated=True)
    assert renewals(lived("box", edge=True, dedicated=True))


def test_the_worker_offers_no_more_than_the_ladder_lends() -> None:
    """A fine phone's worker offers the ladder's gigabyte instead of harvest's 30 %, as often as without it."""
    wide, narrow = renewals(lived("phone", edge=False)), renewals(lived("phone", edge=True))

    assert {offer.memory_bytes for offer in wide} == {0.3 * 8e9}
    assert {offer.memory_bytes for offer in narrow} == {2.0**30}
    assert [offer.layer_s for offer in narrow] == [offer.layer_s for offer in wide]


def test_the_spec_travels_and_older_ones_are_read() -> None:
    """A journal's header of before the edge agent still builds its Cell."""
    plain: dict[str, Any] = village.to_plain(spec("k1", edge=True))
    assert village.from_plain(plain) == spec("k1", edge=True)
    del plain["edge"], plain["config"]["edge"]
    assert village.from_plain(msgspec.json.decode(msgspec.json.encode(plain))) == spec("k1", edge=False)
