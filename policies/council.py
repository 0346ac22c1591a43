"""The council on one device: it lets the fleet change its committee by epochs, through the log and nothing else.

What is decided, and why it can be trusted, is `policies.state.council`; `Duties` bring the words to the log and carry
the decision out. Every device mounts them beside its log, members and those who stand by alike, as a layer of what
applies the log: of clients' registers (`Councillor`) or of a village's coordination (`policies.coordination.council`).

- a device stands, by a member's mouth as long as the log does not hear itself, and says to the members that it lives;
- a member calls the roll when its own clock says that the epoch is over, or when a member was convicted and there was
  time to hear everybody;
- it carries evidence to the log, for all to judge;
- when a committee is decided it allows the log this change and no other, and asks for it: at once if it leads, and
  after a while in any case, since the leader may lie.

Nothing of the decision is its own opinion: clocks say when to speak, and whom one heard is one voice of several.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import msgspec

from policies.commands import Attend, Convict, Facts, Stand, decode, unsigned
from policies.config import CouncilConfig
from policies.local import Accused, Allow, Committed, Configured, Leadership, Propose, Reconfigure, Restore
from policies.port import NS_PER_S, Policy
from policies.registry import LOG, WAITING_MAX, Registry
from policies.state import VillageState
from policies.state.council import SECRET_BYTES, Chooser, Convicts, Council, commitment_of
from policies.state.village import NO_MODELS
from policies.wire import Message, WireError, encode

NEVER = -(1 << 62)
PATIENCE = 4
"""Times the retry until a client's command is asked for again: most logs keep it, and it may only wait (our choice)."""
BEATS = 4
"""Signs of life for which an epoch lasts, or its whole time if that is less, though somebody guilty sits (our choice:
half of them are asked for, so one may be lost and one be late). In a shorter one nobody is heard, nobody's stability
suffices, and the guilty keeps its seat, epoch after epoch."""


class Alive(Message, frozen=True, tag="alive"):
    """A device is there."""


class Speak(Message, frozen=True, tag="speak"):
    """Please say to the log that I stand."""

    stand: Stand


class Convicted(Message, frozen=True, tag="convicted"):
    """Announced by every device: as the log's ``command``-th command ``node`` was proved guilty."""

    node: str
    command: int


class Charter(NamedTuple):
    """What one device's part in the council rests on; all but ``facts`` are the same everywhere.

    Attributes:
        config: times, and the rules that ``chooser`` has as well.
        founders: the committee of epoch 0; the log's first members.
        facts: what this device says of itself.
        chooser: who chooses the next committee.
        convicts: who is proved guilty by evidence.
    """

    config: CouncilConfig
    founders: tuple[str, ...]
    facts: Facts
    chooser: Chooser
    convicts: Convicts | None = None


class Duties(Policy):
    """One device's part in the council: a layer over the policy that applies the log and has its ``state``.

    Attributes:
        begun_ns: when this device learned of the present epoch.
        beats: device to how often it said in this epoch that it is there.
        configured: (members, learners) that the log has.
        led_by: who leads, as far as is known.
    """

    messages: ClassVar[tuple[type[Message], ...]] = (Alive, Speak)
    state: VillageState
    seats: tuple[str, ...] = ()  # only who coordinates puts anybody out,
    layers: Mapping[str, int] = NO_MODELS  # or has models served

    def _convene(self, charter: Charter) -> None:
        """Begin, before there is a state."""
        self.charter, config = charter, charter.config
        self.epoch_ns, self.alive_ns = int(config.epoch_s * NS_PER_S), int(config.alive_s * NS_PER_S)
        self.retry_ns = int(config.retry_s * NS_PER_S)
        self.beats: dict[str, int] = {}
        self.begun_ns = 0
        self.configured: tuple[tuple[str, ...], tuple[str, ...]] = (charter.founders, ())
        self.led_by = ""
        self.guilty: dict[str, bytes] = {}  # convictions on which the state has not judged, by culprit
        self.spoke_ns: dict[str, int] = {}  # when something was last asked for, by what it was

    def _new_state(self, snapshot: bytes = b"") -> VillageState:
        known = (self._new_council(), self.seats, self.layers)
        return VillageState.restore(snapshot, *known) if snapshot else VillageState(*known)

    def _new_council(self) -> Council:
        return Council(self.charter.founders, self.charter.chooser, self.charter.convicts)

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.begun_ns = self.port.now
        super().on_start(saved)
        self.port.tell(LOG, Allow())
        self._beat()

    # -- in time -------------------------------------------------------------------------------------

    def on_timer(self, name: str) -> None:
        if name == "beat":
            self._beat()
        else:
            super().on_timer(name)

    def _beat(self) -> None:
        council, me = self.state.council, self.port.me
        self.port.set_timer("beat", self.alive_ns)
        if me not in council.candidates and self._due("stand"):
            self._stand()
        for name in council.sitting:
            if name != me:
                self.port.send(name, Alive())
        if me in council.sitting:
            self._call_the_roll()
        self._press(PATIENCE * self.retry_ns)
        if self.guilty and self._due("convict"):
            self._accuse()
        self._carry_out()

    def _due(self, what: str) -> bool:
        """Whether it is time to ask for something, at first or again; then it counts as asked for."""
        now = self.port.now
        if now - self.spoke_ns.get(what, NEVER) < self.retry_ns:
            return False
        self.spoke_ns[what] = now
        return True

    def _press(self, wait_ns: int) -> None:
        """Ask again for what others want of the log and have waited for so long: the layer below knows."""

    # -- standing ------------------------------------------------------------------------------------

    def _stand(self) -> None:
        me = self.port.me
        stand = Stand(me, self.charter.facts, commitment_of(self._secret(0)), b"")
        stand = msgspec.structs.replace(stand, signature=self.port.keys.sign(unsigned(stand)))
        if me in self.state.council.sitting:
            self.port.tell(LOG, Propose(encode(stand)))
            return
        for name in self.configured[0]:
            self.port.send(name, Speak(stand))

    def _secret(self, number: int) -> bytes:
        """Return this device's secret of a number: its own signature, so no crash forgets it and nobody guesses it."""
        return self.port.keys.sign(encode(("council secret", number)))[:SECRET_BYTES]

    def on_message(self, sender: str, message: Any) -> None:
        council = self.state.council
        if isinstance(message, Alive):
            if sender in council.candidates:
                self.beats[sender] = self.beats.get(sender, 0) + 1
        elif not isinstance(message, Speak):
            super().on_message(sender, message)
        elif message.stand.node == sender and sender not in council.candidates and self._due(f"stand {sender}"):
            self.port.tell(LOG, Propose(encode(message.stand)))  # of its signature the state judges

    # -- the roll call -------------------------------------------------------------------------------

    def _call_the_roll(self) -> None:
        council, me = self.state.council, self.port.me
        candidate = council.candidates.get(me)
        lasted_ns = self.port.now - self.begun_ns
        guilty = any(name in council.barred for name in council.sitting)
        over = lasted_ns >= (min(BEATS * self.alive_ns, self.epoch_ns) if guilty else self.epoch_ns)
        if candidate is None or me in council.attended or not over or not self._due("attend"):
            return
        half = max(1, lasted_ns // self.alive_ns // 2)
        heard = tuple(name for name in council.candidates if self.beats.get(name, 0) >= half)
        number = council.epoch + 1
        said = Attend(
            me, council.epoch, heard, self._secret(candidate.number), commitment_of(self._secret(number)), b""
        )  # fmt: skip
        said = msgspec.structs.replace(said, signature=self.port.keys.sign(unsigned(said)))
        self.port.tell(LOG, Propose(encode(said)))

    def _accuse(self) -> None:
        """Carry to the log what evidence was not seen there."""
        self.guilty = {who: said for who, said in self.guilty.items() if who not in self.state.council.barred}
        for command in self.guilty.values():
            self.port.tell(LOG, Propose(command))

    # -- the change ----------------------------------------------------------------------------------

    @property
    def _in_office(self) -> bool:
        """Whether the log has the members and learners that were decided, in whatever order."""
        decided = self.state.council.last
        members, learners = self.configured
        return set(members) == set(decided.members) and set(learners) == set(decided.learners)

    def _carry_out(self) -> None:
        """Ask for the members that were decided, until the log has them."""
        if self._in_office or self.port.me not in self.configured[0]:
            return
        patient = self.led_by != self.port.me and self.port.now - self.begun_ns < self.retry_ns
        if not patient and self._due("change"):
            decided = self.state.council.last
            self.port.tell(LOG, Reconfigure(decided.members, decided.learners))

    def _decided(self) -> None:
        """Another epoch has begun: measure it anew, and let the log change to its members."""
        decided = self.state.council.last
        self.port.decide("decision", decided)
        self.begun_ns = self.port.now
        self.beats.clear()
        for what in ("attend", "change"):
            self.spoke_ns.pop(what, None)
        self._allow()
        self._carry_out()

    def _allow(self) -> None:
        decided = self.state.council.last
        self.port.tell(LOG, Allow() if self._in_office else Allow(decided.members, decided.learners))

    # -- the log -------------------------------------------------------------------------------------

    def on_local(self, sender: str, message: Any) -> None:
        epoch, guilty = self.state.council.epoch, len(self.state.council.barred)
        super().on_local(sender, message)
        if isinstance(message, Committed):
            for name in list(self.state.council.barred)[guilty:]:
                self.port.decide("convicted", Convicted(name, self.state.applied))
            if self.guilty:  # whatever the state made of it, it will say the same again
                self.guilty = {who: said for who, said in self.guilty.items() if said != message.command}
        elif isinstance(message, Restore):
            self._press(self.retry_ns)
        elif isinstance(message, Configured):
            self.configured = (message.members, message.learners)
            self.port.decide("seated", message)
            self._allow()
        elif isinstance(message, Leadership):
            self.led_by = message.leader
        elif isinstance(message, Accused) and len(self.guilty) < WAITING_MAX:
            self.guilty[message.culprit] = encode(Convict(message.evidence))
            self.spoke_ns["convict"] = self.port.now
            self._accuse()
        if self.state.council.epoch != epoch:
            self._decided()


class Councillor(Duties, Registry):
    """A device that serves clients' registers as `Registry` does, and takes commands for the log besides.

    Args:
        charter: as `Duties` have it.
        snapshot_every: as `Registry`'s.
    """

    requests = (*Registry.requests, Propose)

    def __init__(self, charter: Charter, snapshot_every: int = 1000) -> None:
        self._convene(charter)
        Registry.__init__(self, charter.config.retry_s, snapshot_every=snapshot_every)
        self.asked_for: dict[bytes, int] = {}  # clients' commands that were not seen committed: when last asked for

    def _press(self, wait_ns: int) -> None:
        """A log may lose a command, and the state makes it happen once; what it holds need not be asked for again."""
        now = self.port.now
        for command in [command for command, since_ns in self.asked_for.items() if now - since_ns >= wait_ns]:
            if self._holds(command):
                del self.asked_for[command]
            else:
                self.asked_for[command] = now
                self.port.tell(LOG, Propose(command))

    def _holds(self, command: bytes) -> bool:
        try:
            return self.state.holds(decode(command))
        except WireError:
            return False

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        if not isinstance(operation, Propose):
            super().on_request(client, op_id, operation)
        elif len(self.asked_for) < WAITING_MAX:
            self.asked_for[operation.command] = self.port.now
            self.port.tell(LOG, operation)

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Committed):
            self.asked_for.pop(message.command, None)
        super().on_local(sender, message)
