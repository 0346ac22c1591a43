"""What the simulated village puts in place of what is real, in words for a run's manifest."""

from __future__ import annotations

from pathlib import Path

from scenarios.schema import Network

FIDELITY = {
    "compute": "fluid: own batch law; executors and host cores shared, max_min; a profile's server step by step",
    "network": "messages one by one; bulk bytes share access links",
    "battery": "two-pair circuit, its fast pair in R0; one exponential-midpoint step a reading",
    "thermal": "three nodes, exact over a reading; step-wise limit cycle in closed form",
    "owners": "habits by assumption, keyed draws",
    "signatures": "keyed BLAKE2b in place of Ed25519",
    "answers": "an answer is its name; no tokens are computed",
}


def fidelity(network: Network) -> dict[str, str]:
    """Return part to how it is simulated, for a scenario's network."""
    return {**FIDELITY, "network": _of_network(network)}


def _of_network(network: Network) -> str:
    between = "measured cities by coordinates" if network.backbone == "cities" else "one delay for every pair"
    tcp = "slow start" * network.slow_start, "bounded by loss" * network.loss_bound
    bulk = ", ".join([network.sharing, *filter(None, tcp)])
    loss = network.bursts or "independent"
    played = f", mobile ones replayed from {Path(network.replay).name}" if network.replay else ""
    return f"{FIDELITY['network']}, {bulk}; rates: {network.access}{played}; backbone: {between}; loss: {loss}"
