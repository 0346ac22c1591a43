"""Circles of dependencies, against networkx."""

from __future__ import annotations

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from policies.tasks import circle

names = st.sampled_from("abcdefgh")
submissions = st.lists(st.tuples(names, st.sets(names, max_size=3)), max_size=12)


@given(submissions)
def test_a_circle_is_found_exactly_where_there_is_one(submitted: list[tuple[str, set[str]]]):
    """Whatever comes in whatever order: refused is what makes the graph cyclic, and the circle named is one."""
    known: dict[str, tuple[str, ...]] = {}
    graph = nx.DiGraph()
    for task, dependencies in submitted:
        if task in known:
            continue
        found = circle(task, sorted(dependencies), known)
        with_it = graph.copy()
        with_it.add_edges_from((task, other) for other in dependencies)
        assert bool(found) is not nx.is_directed_acyclic_graph(with_it)
        if found:
            assert found[0] == found[-1] == task
            assert nx.is_path(with_it, found)
        else:
            known[task], graph = tuple(dependencies), with_it
