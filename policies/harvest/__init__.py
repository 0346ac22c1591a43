"""Harvest: who lends idle compute, when and how much.

`choose.make` turns a configuration into one of five rules with one interface (`rows`): `elementwise` (the documented
one), `predecessor`, `boinc`, `federated` and `predictive` (with its forecasts, `owner` and `heat`). `limits` holds the
gates that those of the village's own share. All read through `rows.known`, to which nonsense is unknown. `agent`
carries a decision out on one node, `envelope` says what a decision must never break, `messages` is what an agent
announces, `receipts` the same for a fleet.
"""

from policies.harvest.agent import HarvestAgent
from policies.harvest.choose import make
from policies.harvest.elementwise import Harvest, HarvestState
from policies.harvest.envelope import violations
from policies.harvest.messages import HarvestReceipt, Session
from policies.harvest.receipts import Receipts, Tally, no_tally, owner_back, settle
from policies.harvest.rows import Devices, HarvestRule

__all__ = [
    "Devices",
    "Harvest",
    "HarvestAgent",
    "HarvestReceipt",
    "HarvestRule",
    "HarvestState",
    "Receipts",
    "Session",
    "Tally",
    "make",
    "no_tally",
    "owner_back",
    "settle",
    "violations",
]
