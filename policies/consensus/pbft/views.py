"""Views: giving a primary up, together, and beginning the next one's view (sections 4.4 and 4.5.2)."""

from __future__ import annotations

from policies.consensus.pbft import messages as m
from policies.consensus.pbft.catch_up import REPEAT_MAX
from policies.consensus.pbft.evidence import statements
from policies.consensus.pbft.ordering import Ordering
from policies.consensus.pbft.proofs import again


class Views(Ordering):
    """A member that changes views."""

    def _doubt(self) -> None:
        """This member waited in vain: it says so, and leaves the view if a quorum would."""
        self.doubts.impatient = True
        self._say_status()
        self._leave_together()

    def _give_up(self, view: int) -> None:
        """The state machine would leave this view, whatever is executed in it."""
        if self.member and self.voter.active and view == self.voter.view:
            self.doubts.for_good = view
            self._doubt()

    def _say_status(self) -> None:
        """Tell everybody where this member stands."""

    def _leave_together(self) -> None:
        view, others = self.voter.view, self.doubts.others(self.voter.view)
        if not self.voter.active or others <= self.committee.faults:
            return
        if not self.doubts.impatient:  # one of them is correct, and may need the others to go on
            self.doubts.impatient = True
            self._say_status()
        if others + 1 >= self.committee.quorum:
            self._leave(view + 1)

    def _leave(self, view: int) -> None:
        change = self.voter.leave(view)
        self.doubts.impatient = False
        self.patience.failures += 1
        self.patience.wait_for(b"")
        self._follow()
        self.ahead.change(change)
        self._all(change)
        self._gather()

    def _on_view_change(self, sender: str, change: m.ViewChange) -> None:
        """A member moves to a view: by its form it is bounded, and may be kept until who leads that view proves it."""
        if change.view < self.voter.view + self.voter.active:
            return
        if not self.committee.plausible(change):
            self._drop("view change that cannot be")
            return
        if not self.committee.signed(change):
            return
        if self.ahead.change(change):
            pulled = self.ahead.pulls_to(self.voter.view, self.committee.faults)
            if pulled > self.voter.view:
                self._leave(pulled)
            else:
                self._gather()

    def _gather(self) -> None:
        """While moving to a view: be patient once a quorum moves there or past it, and begin it as its primary."""
        view, changes = self.voter.view, self.ahead.for_view(self.voter.view)
        if self.voter.active or self.ahead.moving_to(view) < self.committee.quorum:
            return
        self.patience.wait_for(b"view %d" % view)
        if self.committee.primary(view) == self.port.me:
            proven = tuple(change for change in changes if self._proven(change))[: self.committee.quorum]
            if len(proven) == self.committee.quorum:
                made = self.vetting.signed(view, again(proven)[1], self.committee)
                if made is not None:
                    self._on_new_view(self.port.me, self.voter.new_view(proven, made))

    def _proven(self, change: m.ViewChange) -> bool:
        """Whether a view change is proven; while its signatures wait for a later step, not yet. A false one goes."""
        committee = self.committee
        if not self.vetting.vetted(change.member, change, lambda: committee.claims_of_change(change), committee):
            return False
        proven = committee.proves_change(change)
        if not proven:
            del self.ahead.changes[change.member]
            self._drop("view change without proof")
        return proven

    def _on_new_view(self, sender: str, new: m.NewView) -> None:
        committee = self.committee
        if new.view < self.voter.view + self.voter.active or not committee.plausible_view(new):
            return
        if not self.vetting.vetted(sender, new, lambda: committee.claims_of_view(new), committee):
            return
        if not self.voter.enter(new):
            return
        for heard in statements(new, committee):  # a primary that named one batch here and another there is seen by it
            self._saw(*heard)
        self.patience.wait_for(b"")
        self.doubts.impatient = False
        self._begin_view(new)
        for seq, digest in self.voter.lacking()[:REPEAT_MAX] if self.member else ():
            self._all(m.Missing(seq, digest))
        self._propose()

    def _begin_view(self, new: m.NewView | None = None) -> None:
        """A view, or an epoch, has begun: ask its primary, take what it proposed already, and vote."""
        self.pool.begin_view(self.port.me)
        self._follow()
        if self.role != "leader":
            self._repeat_requests(self.port.now)
        elif new is not None:
            self._all(new)
        for proposal in self.ahead.proposals_of(self.leader, self.voter.view):
            if self._fits(proposal.batch):
                self.voter.accept(self.leader, proposal)
        self._vote_from(0)
