"""Identity: signatures of the wrong key, names of others, certificates that certify nothing, and many names for one.

No wrapper can change who the transport says it is: a driver knows its node, not what the node writes about itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from policies import port as p
from policies.port import Effect, Input
from scenarios.adversaries.behaviours import ForgeCertificate, Impersonate, Sybil, WrongKey
from scenarios.adversaries.content import ChangingCell
from scenarios.adversaries.payload import at, lookalike, plain, substitute, swapped
from scenarios.adversaries.wrapped import Wrapped, signatures_in, with_payload


class WrongKeyCell(Wrapped[WrongKey]):
    """Replaces its own signatures in what it sends."""

    def say(self, effect: Effect) -> Iterable[Effect]:
        made, coalition = self.place.keys.made, self.place.coalition
        found = list(signatures_in(effect[3], made)) if effect[0] == p.SEND else []
        for signature in found:
            wrong = lookalike(signature, self.place.me)
            if self.behaviour.mate and coalition is not None:
                wrong = self.sign(made[signature], coalition.after(self.place.me))
            effect = with_payload(effect, swapped(effect[3], {signature: wrong}))
        yield effect


class ImpersonatingCell(Wrapped[Impersonate]):
    """Writes another's name."""

    def say(self, effect: Effect) -> Iterable[Effect]:
        if effect[0] == p.SEND:
            effect = with_payload(effect, swapped(effect[3], {self.place.me: self.behaviour.victim}))
        yield effect

    def act(self, given: Input) -> list[Effect]:
        victim = self.behaviour.victim
        forwards = self.behaviour.forward and self.acting and given[0] == p.MESSAGE and given[2] == victim
        effects = super().act(given)
        if forwards and self.concerns(given, victim):
            effects += [(p.SEND, given[1], peer, given[3]) for peer in self.place.peers if peer != victim]
        return effects


class CertificateForgingCell(ChangingCell[ForgeCertificate]):
    """Fills a list of signers with one, or cuts it."""

    def say(self, effect: Effect) -> Iterable[Effect]:
        b = self.behaviour
        if self.lies_to(effect, b.tags):
            signers = at(plain(effect[3]), b.field)
            if isinstance(signers, list) and signers:
                forged = signers[:1] * (len(signers) if b.how == "duplicate" else 1)
                effect = with_payload(effect, self.changed(effect[3], b.field, forged, b.resign))
        yield effect


class SybilCell(Wrapped[Sybil]):
    """Speaks once more in each of its other names."""

    def say(self, effect: Effect) -> Iterable[Effect]:
        yield effect
        if self.lies_to(effect, self.behaviour.tags):
            yield from (with_payload(effect, self._as(name, effect[3])) for name in self._names())

    def _names(self) -> list[str]:
        me, count, coalition = self.place.me, self.behaviour.identities, self.place.coalition
        if not self.behaviour.keyed or coalition is None:
            return [f"{me}~{k}" for k in range(1, count + 1)]
        return [name for name in coalition.members if name != me][:count]

    def _as(self, name: str, payload: bytes) -> bytes:
        made, swaps = self.place.keys.made, {}
        for signature in signatures_in(payload, made):
            data = substitute(made[signature], self.place.me, name)
            swaps[signature] = self.sign(data, name) if self.behaviour.keyed else lookalike(signature, name)
        return swapped(payload, {self.place.me: name, **swaps})
