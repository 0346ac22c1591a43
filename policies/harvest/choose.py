"""From a configuration to the harvest policy that it names."""

from __future__ import annotations

from policies.config import (
    BoincConfig,
    FederatedConfig,
    HarvestConfig,
    HarvestRules,
    PredecessorConfig,
    PredictiveConfig,
)
from policies.harvest.boinc import Boinc
from policies.harvest.elementwise import Harvest
from policies.harvest.federated import Federated
from policies.harvest.predecessor import Predecessor
from policies.harvest.predictive import Predictive
from policies.harvest.rows import HarvestRule


def make(config: HarvestRules) -> HarvestRule:
    """Return the harvest policy of ``config``.

    Raises:
        ValueError: limits that contradict each other.
        TypeError: no configuration of a harvest policy.
    """
    match config:
        case PredecessorConfig():  # before HarvestConfig, whose fields it has
            return Predecessor(config)
        case HarvestConfig():
            return Harvest(config)
        case BoincConfig():
            return Boinc(config)
        case FederatedConfig():
            return Federated(config)
        case PredictiveConfig():
            return Predictive(config)
    raise TypeError(f"config is a {type(config).__name__}; allowed: one of the harvest configurations")
