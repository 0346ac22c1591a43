"""The leader's side of checks: every session is committed to, lots are drawn afterwards, and a place is computed again.

1. An answer came: each stage is asked for its word, and what they give is proposed to the log (`Pledge`).
2. It stands in the log: the leader signs it, and the signature's digest is the lot, of who is looked at and where.
   Nobody could know it before, for nobody else holds the key; a worker that commits knows the stream of the run's
   seed perhaps, but not this. That the leader itself does not choose rests on the leader, as the draw of audits does.
3. Who was drawn opens; the leader sees whether that is what was committed to.
4. A worker of no part in the session computes the place again. Who is found false is found so by two, or it is let off:
   one of them may lie. Where they differ a third one decides, and who stands alone loses trust.
5. What it needs for that and cannot get, the leader fetches (`policies.checking.fetching`).

Words of a check beside those of `policies.verification.Verdict`: ``commitment`` (signed, and of something else),
``silent`` (bound, drawn, and showed nothing), ``withheld`` (hands out neither what it took, which the stage before does
not do for it, nor, a head, its answer), ``slow`` (does so, but not in time), ``kept_back`` (does not hand out what it
gave to a stage that withholds it), ``forgotten`` (has lost what it kept), ``unbound`` (never gave its word), ``apart``
(neighbours committed to different things, or a last stage did not choose what its head reported), ``contradicted``
(accused or excused another, and two disagreed), ``unconfirmed`` and ``unchecked`` (nobody was left to say so).
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from policies.checking.fetching import Fetching
from policies.checking.messages import Bind, Bound, Checked, Draw, Found, Handed, Key, Opened, Recheck, Release, Unable
from policies.checking.places import Check, Missing, Place, neighbours
from policies.config import SpotChecksConfig
from policies.local import Answered, Examined, Leadership, Pledged, Propose
from policies.port import NS_PER_S
from policies.verification import belongs, draw_challenge
from policies.wire import encode
from policies.work import RESEND_NS

LOT = 1 << 64


class Examiner(Fetching):
    """One committee member's examiner; it works while the member leads.

    Args:
        config: how often, and how patiently.
    """

    messages = (Bound, Opened, Handed, Found, Unable)

    def __init__(self, config: SpotChecksConfig) -> None:
        super().__init__(int(config.wait_s * NS_PER_S))

    # -- what coordination says -------------------------------------------------------------------------

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Answered):
            self._begin(Check(message, self.port.now))
        elif isinstance(message, Pledged):
            self._draw(message)
        elif isinstance(message, Leadership):
            self.checks.clear()  # what another leader began is another's; workers forget it in time

    def _begin(self, check: Check) -> None:
        if not self.checks:
            self.port.set_timer("resend", RESEND_NS)
        self.checks[check.key] = check
        self._ask_to_bind(check)

    def _ask_to_bind(self, check: Check) -> None:
        for stage in check.answered.stages:
            if stage.node not in check.bound:
                self._to(stage.node, Bind(check.key, check.transcript(stage)))

    def _draw(self, pledged: Pledged) -> None:
        """The words stand in the log: draw who is looked at, and where; let the others go."""
        pledge = pledged.pledge
        check = self.checks.get(Key(pledge.client, pledge.op_id, pledge.attempt))
        if check is None or check.pledge is None or check.places or pledge != check.pledge:
            return
        lots = self.port.keys.sign(encode(("lots", pledged.applied, pledge)))
        pairs = neighbours(pledge)
        at_odds = {node for *pair, agreed in pairs if not agreed for node in pair}
        before = {right: left for left, right, agreed in pairs if agreed}
        for stage, commitment in zip(pledge.stages, pledge.commitments, strict=True):
            drawn = sha256(lots + encode(stage)).digest()
            rate = check.answered.rates[check.answered.stages.index(stage)]
            if stage.node in at_odds:
                self._tell(stage.node, "apart", check.asked_ns)
                rate = 1.0  # one of them lies, perhaps about what can be seen
            if int.from_bytes(drawn[:8], "little") < rate * LOT:
                place = Place(stage, commitment, draw_challenge(drawn[8:], commitment), drawn, self.port.now)
                place.before = before.get(stage.node, "")
                check.places[stage.node] = place
                self._to(stage.node, Draw(check.key, place.challenge))
        self.port.note("bound", stages=len(pledge.stages), drawn=len(check.places))
        needed = {*check.places, *(place.before for place in check.places.values())}
        for stage in pledge.stages:
            if stage.node not in needed:
                self._to(stage.node, Release(check.key))
        if not check.places:
            del self.checks[check.key]

    # -- what workers say -------------------------------------------------------------------------------

    def on_message(self, sender: str, message: Any) -> None:
        check = self.checks.get(message.key)
        if check is None:
            if isinstance(message, Bound):
                self._to(sender, Release(message.key))
        elif isinstance(message, Bound):
            self._on_bound(sender, check, message)
        elif isinstance(message, Opened):
            self._on_opened(sender, check, message)
        elif isinstance(message, Handed):
            self._on_handed(sender, check, message)
        elif isinstance(message, Found):
            self._on_found(sender, check, message)
        else:
            self._on_unable(sender, check, message)

    def _on_bound(self, sender: str, check: Check, word: Bound) -> None:
        stage = check.stage(sender)
        if stage is None or sender in check.bound:
            return
        if check.pledge is not None:  # too late: the pledge goes without it, and nobody will look
            self._to(sender, Release(check.key))
            return
        if not self.port.keys.verify(sender, encode(word.commitment), word.signature):
            self.port.note("bad_commitment", node=sender)
            return  # whoever signed it did not say it; it is asked again
        if not check.fits(stage, word.commitment):
            self._end(check, sender, "commitment", (), check.asked_ns)
            self._drop(check)  # a session that one stage does not stand by is no basis for the others
            return
        check.bound[sender] = word
        if len(check.bound) == len(check.answered.stages):
            self._propose(check)

    def _propose(self, check: Check) -> None:
        pledge = check.pledge or check.propose(self.port.now)
        self.port.tell("consensus", Propose(encode(pledge)))

    def _on_opened(self, sender: str, check: Check, shown: Opened) -> None:
        place = check.places.get(sender)
        if place is None or place.opened is not None:
            return
        whole = bool(shown.came) == (place.stage.first > 0)  # the first stage took tokens, any other one activations
        if not (whole and belongs(shown.opening, place.commitment, place.challenge)):
            self._finish(check, place, "opening")
            return
        place.opened = shown
        self._ask_another(check, place)

    def _on_found(self, sender: str, check: Check, found: Found) -> None:
        place = check.places.get(found.node)
        if place is None or place.asked != sender:
            return
        place.words[sender] = found.verdict.word
        word = place.settled()
        if word:
            self._finish(check, place, word)
        else:
            self._ask_another(check, place)

    def _on_unable(self, sender: str, check: Check, unable: Unable) -> None:
        if check.stage(sender) is None and not any(sender in place.tried for place in check.places.values()):
            return  # it was asked nothing
        self.port.note("unable", node=sender, asked=unable.asked, reason=unable.reason)
        if unable.asked == "bind" and check.pledge is None and check.stage(sender) is not None:
            stages = check.answered.stages
            if unable.disowns and len(stages) > 1 and sender == stages[-1].node:
                for node in (stages[0].node, sender):  # one of them lies, and nobody else can tell which
                    self._tell(node, "apart", check.asked_ns)
                self._drop(check)
                return
            self._lack(check, unable.lacks, None)
        elif unable.asked == "hand":
            self._on_handed(sender, check, unable)
        place = check.places.get(sender if unable.asked == "draw" else unable.node)
        if unable.asked == "draw" and place is not None and place.opened is None:  # else it forgot what it had shown
            self._finish(check, place, "forgotten")
        if unable.asked != "recheck" or place is None or place.asked != sender:
            return
        if not self._lack(check, unable.lacks, place):
            self._ask_another(check, place)

    # -- a second worker --------------------------------------------------------------------------------

    def _ask_another(self, check: Check, place: Place) -> None:
        """Let one more worker compute a place again: one of no part in the session, or else another of its stages."""
        answered = check.answered
        outside = [node for node in answered.verifiers if node not in place.tried]
        beside = [s.node for s in answered.stages if s.node != place.stage.node and s.node not in place.tried]
        if not outside and not beside:
            self._finish(check, place, "unconfirmed" if place.words else "unchecked")
            return
        turn = sha256(place.drawn + bytes((len(place.tried) % 256,))).digest()
        place.asked = (outside or beside)[int.from_bytes(turn[:8], "little") % len(outside or beside)]
        place.tried.append(place.asked)
        place.asked_ns = self.port.now
        self._send_recheck(check, place)

    def _send_recheck(self, check: Check, place: Place) -> None:
        assert place.opened is not None
        place.sent_ns = self.port.now
        self._to(
            place.asked,
            Recheck(
                check.key, check.transcript(place.stage), place.commitment, place.challenge, place.opened.opening,
                *check.came(place),
            ),
        )  # fmt: skip

    # -- what was missing -------------------------------------------------------------------------------

    def _had(self, check: Check, missing: Missing) -> None:
        """Go on: whoever lacked it finds it here."""
        for place in list(check.places.values()):
            if place.opened is not None and place.asked:
                place.asked_ns = self.port.now
                self._send_recheck(check, place)
            elif place.opened is not None:
                self._ask_another(check, place)
        if check.pledge is None:
            check.asked_ns = self.port.now
            self._ask_to_bind(check)

    def _withheld(self, check: Check, missing: Missing) -> None:
        """Who should have handed it out is judged; a prompt is no worker's."""
        word, since_ns = "slow" if missing.slow else "withheld", missing.since_ns
        if missing.came:
            if missing.other:
                self._tell(missing.other, "kept_back", since_ns)
            self._finish(check, check.places[missing.owner], word, since_ns)
            return
        if missing.blob == check.answered.output:
            self._end(check, missing.owner, word, (), since_ns)
        self._drop(check)  # nobody can commit to, or compute again, what was said

    def _cannot_tell(self, check: Check, missing: Missing) -> None:
        """Judge nobody."""
        if missing.came:
            self._finish(check, check.places[missing.owner], "unchecked")
        else:
            self._drop(check)

    # -- time -------------------------------------------------------------------------------------------

    def on_timer(self, name: str) -> None:
        for check in list(self.checks.values()):
            for missing in list(check.missing.values()):
                if check.key in self.checks:
                    self._watch(check, missing)
            if check.key not in self.checks:
                continue  # it ended with what was withheld
            if check.places:
                for place in list(check.places.values()):
                    if place.opened is None or not check.missing:
                        self._remind(check, place)
            elif check.missing:
                continue
            elif check.pledge is None:
                self._remind_to_bind(check)
            elif self.port.now - check.proposed_ns > self.wait_ns:
                self._drop(check)  # the log does not take it; what is not agreed binds nobody
            else:
                self._propose(check)
        if self.checks:
            self.port.set_timer("resend", RESEND_NS)

    def _remind_to_bind(self, check: Check) -> None:
        if self.port.now - check.asked_ns <= self.fetch_ns:
            self._ask_to_bind(check)
            return
        for stage in check.answered.stages:
            if stage.node not in check.bound:
                self._end(check, stage.node, "unbound", (), check.asked_ns)
        if check.bound:
            self._propose(check)
        else:
            self._drop(check)

    def _remind(self, check: Check, place: Place) -> None:
        now = self.port.now
        if place.opened is None:
            if now - place.drawn_ns > self.wait_ns:
                self._finish(check, place, "silent")
            else:
                self._to(place.stage.node, Draw(check.key, place.challenge))
        elif now - place.asked_ns > self.fetch_ns:
            place.asked = ""  # perhaps it waits for what the stage took
            if not self._lack(check, place.opened.came, place):
                self._ask_another(check, place)
        elif now - place.sent_ns > self.wait_ns // 3:  # an opening is tens of kilobytes, and the work takes seconds
            self._send_recheck(check, place)

    # -- ends -------------------------------------------------------------------------------------------

    def _finish(self, check: Check, place: Place, word: str, asked_ns: int = 0) -> None:
        """A place is judged: say so; forget the session with its last place."""
        del check.places[place.stage.node]
        if place.opened is not None:
            check.missing.pop((place.stage.node, place.opened.came), None)
        if place.settled() == word:
            for node in place.contradicted(word):
                self._tell(node, "contradicted", place.asked_ns)
        self._end(check, place.stage.node, word, tuple(place.words), asked_ns or place.drawn_ns)
        if not check.places:
            self._drop(check)

    def _end(self, check: Check, node: str, word: str, verifiers: tuple[str, ...], asked_ns: int) -> None:
        self.port.decide(
            "checked", Checked(check.key.client, check.key.op_id, check.key.attempt, node, word, verifiers)
        )
        self._tell(node, word, asked_ns)

    def _drop(self, check: Check) -> None:
        for stage in check.answered.stages:
            self._to(stage.node, Release(check.key))
        del self.checks[check.key]

    def _tell(self, node: str, word: str, asked_ns: int) -> None:
        self.port.tell("coordination", Examined(node, word, asked_ns))
