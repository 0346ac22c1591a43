"""Which devices form the committee that agrees for the village, and how sure one can be of it.

- `candidates`: what is known of a device that may sit.
- `check`: what a committee must be to be one at all.
- `choice`: the choice, by lot weighted with trust and stability, under the documented rules of diversity.
- `bound`: the probability that more members are faulty than the committee bears.

Sizes follow Byzantine agreement: of n members f = (n - 1) // 3 may lie (Castro and Liskov, OSDI 1999).
"""

from policies.committee.candidates import Candidate
from policies.committee.check import CommitteeError, check_members, check_size, faults
from policies.committee.choice import Committee, select

__all__ = ["Candidate", "Committee", "CommitteeError", "check_members", "check_size", "faults", "select"]
