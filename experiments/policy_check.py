"""check_policy: one line that says what is wrong with a policy, before it meets a world."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.policy_shape import check_shape
from experiments.policy_source import check_source
from experiments.policy_trial import NODES, try_out
from experiments.policy_units import PolicyError
from policies.port import Policy
from sim.cluster import Factory


def check_policy(policy: type[Policy] | Factory, seconds: float = 5.0) -> None:
    """Check a policy and print ``ok``, or raise one line that names the first thing wrong.

    >>> from policies.election import Election
    >>> check_policy(Election)
    ok: Election: 3 nodes, 5 s, a crash and a restart, two equal runs

    Its shape is read first (`policy_shape`), then its text (`policy_source`), then it runs (`policy_trial`).

    Args:
        policy: the class, or, where it needs arguments, a function that makes one, or makes them by path.
        seconds: virtual time of each of the two runs.

    Raises:
        PolicyError: what is wrong, where, and what to write instead.
    """
    kinds = _kinds(policy)
    for kind in kinds:
        check_shape(kind)
        check_source(kind)
    try_out(policy, kinds, seconds)
    names = " and ".join(kind.__qualname__ for kind in kinds)
    print(f"ok: {names}: {NODES} nodes, {seconds:g} s, a crash and a restart, two equal runs")


def _kinds(policy: type[Policy] | Factory) -> list[type[Policy]]:
    """Return the classes of what ``policy`` makes, or refuse it."""
    name = getattr(policy, "__qualname__", repr(policy))
    if isinstance(policy, Policy) or not callable(policy):
        raise PolicyError(f"{name}: expected a policy's class, or a function that makes one")
    if isinstance(policy, type):
        if not issubclass(policy, Policy):
            raise PolicyError(f"{name}: is no subclass of policies.port.Policy; write class {name}(Policy)")
        check_shape(policy)  # before it is made: a class without handlers is the likelier slip
    try:
        made = policy()
    except TypeError as error:
        raise PolicyError(f"{name}: cannot be made ({error}); try check_policy(lambda: {name}(...))") from None
    mounted = list(made.values()) if isinstance(made, Mapping) else [made]
    for one in mounted:
        if not isinstance(one, Policy):
            raise PolicyError(f"{name}: makes a {type(one).__name__}, which is no policies.port.Policy")
    return list(dict.fromkeys(type(one) for one in mounted))
