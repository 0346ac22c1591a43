"""Who may say what to a stage: what it hears of a session must come from the session's head, or from the stage before.

Which pipeline that is, and whose copies a node takes as a standby, is its leader's word, which its own jobs bring
(`policies.jobs.AdmitJob`, `ExpectJob`): no peer has layers that are here compute for a pipeline of its own making, nor
puts its copy in the place of the one that a standby has. The newest order stands alone. A leader lets a pipeline drain
before it dissolves it and orders another, and what it gave up is nobody's to go on with.

The transport knows who sent a frame (a TLS peer by its key). A frame says itself which stages its session has, and any
peer can write anything there; so what the head said first stands, and a frame that says otherwise is refused. Were it
not so, any peer could step another's session, or end it, and an honest stage would answer for work on false input.
A stage before may come first, and name any head: until that has spoken itself, the session is not taken for its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from policies.jobs import Stage

SESSIONS_OF_PEER_MAX = 512
"""Sessions that are remembered of what one peer said first (our choice, above what a stage serves at once), not of one
head, which a stage before can name as it likes: whoever begins more and more loses its own, the one first of which
nothing was heard for longest, and no other head's. One that was forgotten is no more: nothing of it is held either."""
ENDED_MAX = 1024
"""Ends that are remembered of one head (our choice): its word that a session is over may overtake the session's last
step, which comes by way of the other stages and would begin it anew, for nobody."""
EXPECTED_MAX = 1024
"""Requests whose copies are expected at once (our choice, above what one leader has under way): the word that one is
over may be lost."""

Stages = tuple[Stage, ...]


class Gate:
    """Admits frames.

    Attributes:
        refused: frames that were not, by kind and sender.
        on_refused: told of the kind and sender, the first time.
        on_forgotten: told of a session or lane that its peer lost by beginning others.
    """

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        self.on_refused: Callable[[str, str], None] = lambda kind, sender: None
        self.on_forgotten: Callable[[str], None] = lambda name: None
        self._stages: dict[str, Stages] = {}  # by session or lane
        self._said_by: dict[str, str] = {}  # session or lane to the peer that spoke of it first
        self._of_peer: dict[str, dict[str, None]] = {}  # and the other way round, latest heard last
        self._ended: dict[str, dict[str, None]] = {}  # head to its sessions, the latest, in order
        self._admitted: tuple[str, Stages] = ("", ())
        self._expected: dict[str, tuple[int, str]] = {}  # request to its attempt, and the node that sends copies of it

    # -- what the leader says ------------------------------------------------------------------------

    def admit(self, model: str, stages: Stages) -> None:
        """Let frames of this pipeline's sessions pass from now on, and of no other's."""
        self._admitted = model, stages

    def serves(self, kind: str, sender: str, model: str, stages: Stages) -> bool:
        """Whether a frame is of the pipeline that this node is a stage of."""
        return (model, stages) == self._admitted or self._refuse(kind, sender)

    def expect(self, kept: str, attempt: int, sender: str) -> None:
        """Let copies of a request pass from this node alone, unless a later attempt's come from another one."""
        if attempt < self._expected.get(kept, (attempt, ""))[0]:
            return
        self._expected.pop(kept, None)
        self._expected[kept] = attempt, sender
        if len(self._expected) > EXPECTED_MAX:
            del self._expected[next(iter(self._expected))]

    def expects(self, sender: str, kept: str) -> bool:
        """Whether a copy of a request comes from where it should."""
        return self._expected.get(kept, (0, ""))[1] == sender or self._refuse("copy", sender)

    def expect_no_more(self, kept: str) -> None:
        """A request is over; "" is every one of them."""
        for each in [kept] if kept else list(self._expected):
            self._expected.pop(each, None)

    # -- what peers say ------------------------------------------------------------------------------

    def from_head(self, kind: str, sender: str, name: str, stages: Stages, head: str = "") -> bool:
        """Whether this is the head's own word about a session; ``head`` as below."""
        return self._from(kind, sender, name, stages, 0, head)

    def from_stage_before(self, kind: str, sender: str, name: str, stages: Stages, index: int, head: str) -> bool:
        """Whether a step of a session comes from the stage before.

        Args:
            kind, sender, name: of the frame.
            stages, index: what it says.
            head: who heads the session of this name here; "" if nobody is known to.
        """
        return self._from(kind, sender, name, stages, index - 1, head)

    def _from(self, kind: str, sender: str, name: str, stages: Stages, index: int, head: str) -> bool:
        theirs = head in ("", stages[0].node) and self._stages.get(name, stages) == stages
        if not theirs or stages[index].node != sender:
            return self._refuse(kind, sender)
        if index == 0 and self.speaker(name) != sender:
            self._forget(name)  # of this very session the stage before spoke first: its head's own word is worth more
        if not self.ended(stages[0].node, name):
            speaker = self._said_by.setdefault(name, sender)
            self._stages[name], own = stages, self._of_peer.setdefault(speaker, {})
            own.pop(name, None)
            own[name] = None
            if len(own) > SESSIONS_OF_PEER_MAX:
                oldest = next(iter(own))
                self._forget(oldest)
                self.on_forgotten(oldest)
        return True

    def speaker(self, name: str) -> str:
        """Return whose word a session is: its head's, or while that has not spoken, the stage before's; "" for none."""
        return self._said_by.get(name, "")

    def end(self, sender: str, name: str, head: str) -> bool:
        """Whether a session or lane may be ended by this peer; from now on it is."""
        stages = self._stages.get(name)
        if head not in ("", sender) or (stages is not None and stages[0].node != sender):
            return self._refuse("close", sender)
        self._forget(name)
        ended = self._ended.setdefault(sender, {})
        ended[name] = None
        if len(ended) > ENDED_MAX:
            del ended[next(iter(ended))]
        return True

    def ended(self, head: str, name: str) -> bool:
        """Whether the head has ended this session."""
        return name in self._ended.get(head, ())

    def refuse(self, kind: str, sender: str) -> None:
        """Count a frame that is refused for another reason."""
        self._refuse(kind, sender)

    def _refuse(self, kind: str, sender: str) -> bool:
        key = f"{kind} of {sender}"
        self.refused[key] += 1
        if self.refused[key] == 1:
            self.on_refused(kind, sender)
        return False

    def _forget(self, name: str) -> None:
        if self._stages.pop(name, None) is not None:
            peer = self._said_by.pop(name)
            del self._of_peer[peer][name]
            if not self._of_peer[peer]:
                del self._of_peer[peer]
