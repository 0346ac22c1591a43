"""What machines a scenario's fleet is: access links and executor laws, as the world needs them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from models import inference, links
from policies.port import NS_PER_S
from scenarios import hosts, starts
from scenarios.schema import Scenario, Shaped
from sim.fleet.village import Inventory
from sim.laws import Law, Roofline, measured
from sim.network import Links
from sim.world import StepCost

CLIENT_ONE_WAY_S = 0.020
"""One way between a client and a committee member (assumption: home broadband at both ends)."""
ETA_KV = 0.6
"""Share of bandwidth reached when reading the cache: 0.1-0.6 without flash attention, 0.9-1.1 in vLLM; the
middle is an assumption for llama.cpp-class engines."""
OVERHEAD_S_STEP = 0.0005
"""Engine time a step: 0.1-0.5 ms for an extra stage inside one host (measured for llama.cpp layer split)."""


def access_links(scenario: Scenario, stock: Inventory) -> Links:
    """Return every device's access link; phones, tablets and laptops reach the home line by Wi-Fi."""
    if scenario.network.home == "loopback":
        one_way_s = float(hosts.read_profile(scenario.profile)["client_s"])
        access = Links.alike(len(stock.name), one_way_s / 2, hosts.LOOPBACK_BYTES_PER_S)  # a message has two ends
        for i, name in enumerate(stock.name):
            if (shape := scenario.fleet.shaped.get(name)) is not None:
                access.one_way_s[i] += shape.one_way_s
                rate = min(hosts.LOOPBACK_BYTES_PER_S, shape.bytes_per_s or hosts.LOOPBACK_BYTES_PER_S)
                access.up_bytes_per_s[i] = access.down_bytes_per_s[i] = rate
        return access
    home, wifi = links.LINKS[scenario.network.home], links.LINKS["wifi"]
    mobile = [kind in ("phone", "tablet", "laptop") for kind in stock.kind]
    up, down = (rates.tolist() for rates in stock.home)
    one_way = [wifi.one_way_s if m else home.one_way_s for m in mobile]
    return Links(one_way, up, down, [wifi.loss if m else home.loss for m in mobile])


def executor_laws(scenario: Scenario, stock: Inventory, shape: inference.Shape) -> list[Law]:
    """Return the executor law of every device: measured where the scenario names a profile, else by roofline."""
    if scenario.network.home == "loopback":
        profile, shaped = hosts.read_profile(scenario.profile), scenario.fleet.shaped
        computes = scenario.executor == "model"
        laws = [measured(profile, shaped.get(name, Shaped()), computes=computes) for name in stock.name]
        if shape == scenario.served:
            return [*laws]
        return [replace(law, law=hosts.of_model(law.law, scenario.served, shape)) for law in laws]
    return [Roofline(shape, device) for device in device_parameters(stock)]


def smaller_models(scenario: Scenario, stock: Inventory) -> dict[str, tuple[inference.Shape, dict[str, Law]]]:
    """Return the shape of each model beside the first one, and the laws of all devices for it."""
    return {
        one.model: (one.served, dict(zip(stock.name, executor_laws(scenario, stock, one.served), strict=True)))
        for one in scenario.smaller
    }


def compute_arguments(scenario: Scenario, stock: Inventory) -> dict[str, Any]:
    """Return arguments of `sim.compute.Compute`: smaller models, cores, and what a profile says of a host."""
    smaller, cores = smaller_models(scenario, stock), scenario.cores
    if scenario.network.home != "loopback":
        return {"smaller": smaller, "cores": cores, "ways": hosts.Ways(scenario.fleet.shaped)}
    profile, backends = hosts.read_profile(scenario.profile), scenario.backends
    each_s = [starts.ready_s(scenario, profile, backend, again=True) for backend in backends]
    measured = {name: float(profile[name]) for name in ("hop_s", "session_s", "blob_s", "plan_s", "load_bytes_per_s")}
    return {
        **measured,
        "smaller": smaller,
        "cores": cores or int(profile["cores"]),
        "ways": hosts.Ways(scenario.fleet.shaped),
        "pinned": scenario.pinned,
        "launch_s": {name: each_s[k % len(each_s)] for k, name in enumerate(stock.name)},
    }


def step_cost(scenario: Scenario) -> StepCost:
    """Return what a node's steps cost; where nodes are processes of one host, what was measured there."""
    if scenario.network.home != "loopback":
        return StepCost()
    profile = hosts.read_profile(scenario.profile)
    input_ns, fsync_ns = (int(float(profile[name]) * NS_PER_S) for name in ("input_s", "fsync_s"))
    if hosts.signatures(profile) == "assumed":
        return StepCost(base_ns=input_ns, fsync_ns=fsync_ns)
    sign_ns, verify_ns = (round(float(profile[name]) * NS_PER_S) for name in hosts.SIGNATURE_FIELDS)
    return StepCost(base_ns=input_ns, sign_ns=sign_ns, verify_ns=verify_ns, fsync_ns=fsync_ns)


def of_profile(scenario: Scenario, stock: Inventory) -> dict[str, Any]:
    """Return what a manifest says of the profile: its hash, how long all processes take until they are warm, and where
    the cost of signatures is from."""
    if scenario.network.home != "loopback":
        return {"profile": "", "ready_s": 0.0, "signatures": "assumed"}
    profile = hosts.read_profile(scenario.profile)
    ready_s = starts.all_ready_s(scenario, profile, len(stock.name))
    return {"profile": hosts.profile_hash(profile), "ready_s": ready_s, "signatures": hosts.signatures(profile)}


def device_parameters(stock: Inventory) -> list[inference.Device]:
    """Return the roofline's parameters of every device."""
    row = stock.row
    return [
        inference.Device(
            float(row.mem_bytes_per_s[i]),
            float(row.flops[i]),
            float(row.eta[i]),
            ETA_KV,
            float(row.mu[i]),
            float(row.overhead_s_layer[i]),
            OVERHEAD_S_STEP,
        )
        for i in range(len(stock.name))
    ]
