# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Write a policy
#
# A policy is a plain class. Its handlers are called one at a time, and all it may touch is `self.port`: the clock,
# the random numbers, the timers, the disk and the other nodes are all behind it. That is why the class below runs
# unchanged in the twin and over real sockets.
#
# The task: a few nodes choose a leader, and never two in one term (Ongaro and Ousterhout 2014, section 5.2).

# %%
import msgspec

from policies.port import NS_PER_S, Policy
from policies.wire import Message, encode


class AskVote(Message, tag="ask_vote"):
    term: int


class Vote(Message, tag="vote"):
    term: int


class Lead(Message, tag="lead"):
    term: int


class MyElection(Policy):
    messages = (AskVote, Vote, Lead)

    def on_start(self, saved):
        self.term, self.voted_for = msgspec.msgpack.decode(saved.get("vote", encode((0, ""))))
        self.votes = set()
        self.wait()

    def wait(self):
        self.port.set_timer("campaign", int(self.port.rng.uniform(0.5, 1.0) * NS_PER_S))

    def vote(self, term, candidate):
        self.term, self.voted_for, self.votes = term, candidate, set()
        self.port.save("vote", encode((term, candidate)))
        self.port.cancel_timer("lead")
        self.wait()

    def on_timer(self, name):
        if name == "campaign":
            self.vote(self.term + 1, self.port.me)
            self.port.broadcast(AskVote(self.term))
            self.count(self.port.me)
        else:
            self.port.broadcast(Lead(self.term))
            self.port.set_timer("lead", NS_PER_S // 10)

    def on_message(self, sender, message):
        if message.term > self.term:
            self.vote(message.term, sender)
        if message.term < self.term:
            return
        if isinstance(message, Vote):
            self.count(sender)
        elif sender == self.voted_for and isinstance(message, AskVote):
            self.port.send(sender, Vote(self.term))
        elif isinstance(message, Lead):
            self.wait()

    def count(self, voter):
        if voter in self.votes:
            return
        self.votes.add(voter)
        if len(self.votes) == (len(self.port.peers) + 1) // 2 + 1:
            self.port.cancel_timer("campaign")
            self.port.decide("leader", Lead(self.term))
            self.on_timer("lead")


# %% [markdown]
# `vote` saves, and `on_message` answers right after. The answer does not overtake: the port holds every send until
# what was saved before it is durable. The same class, with types and reasons, is `policies/election.py`.
#
# ## Check it
#
# `check_policy` reads the text (no clock, no entropy, no I/O, no shared state), then runs three nodes twice and
# compares.

# %%
from experiments import check_policy

check_policy(MyElection)

# %% [markdown]
# What it says when something is wrong is one line, with the place and what to write instead.

# %%
import time


class Clocked(MyElection):
    def wait(self):
        self.port.set_timer("campaign", time.time_ns() % NS_PER_S)


try:
    check_policy(Clocked)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Run it in the twin
#
# Five nodes on home links that lose and double one message in a hundred. Crash the leader, see another; wake the old
# one, cut the new one off, see a third, and heal.

# %%
from sim.cluster import Cluster

cluster = Cluster(MyElection, n=5, seed=3, journal=True)
cluster.run(2)
cluster.crash(cluster.decisions[-1].node)
cluster.run(2)
cluster.restart(cluster.decisions[0].node)
cluster.partition([cluster.decisions[-1].node])
cluster.run(2)
cluster.heal()
cluster.run(2)
for decision in cluster.decisions:
    print(f"{decision.time_s:6.3f} s  {decision.node} leads term {decision.value.term}")
print(f"{cluster.steps} steps, {cluster.messages} messages, digest {cluster.digest[:12]}")

# %% [markdown]
# The trace has a line an event and a column a node: `*` acts, `|` is up, `x` is down. Here is how the last leader
# came to be.

# %%
last = cluster.decisions[-1].time_s
lines = cluster.trace(100_000).splitlines()
print("\n".join(line for line in lines if last - 0.02 < float(line.split()[0]) < last + 0.005))

# %% [markdown]
# One seed gives one history, on any machine: run it again and the digest is the same.

# %%
again, other = (Cluster(MyElection, n=5, seed=seed) for seed in (3, 4))
first = Cluster(MyElection, n=5, seed=3)
for one in (first, again, other):
    one.run(3)
print(first.digest == again.digest, first.digest == other.digest)

# %% [markdown]
# ## Break it
#
# Leave out one line, the `save`. `check_policy` finds nothing: no rule is broken, only the thought. So try it: the
# leader is cut off, the two others lose power and come back without knowing how they had voted.


# %%
class Forgetful(MyElection):
    def vote(self, term, candidate):
        self.term, self.voted_for, self.votes = term, candidate, set()
        self.port.cancel_timer("lead")
        self.wait()


def leaders_by_term(policy, seed):
    cluster = Cluster(policy, n=3, seed=seed)
    while not cluster.decisions:
        cluster.run(0.1)
    leader = cluster.decisions[0].node
    cluster.partition([leader])
    for name in cluster.names:
        if name != leader:
            cluster.crash(name)
            cluster.restart(name)
    cluster.run(3)
    terms = {}
    for decision in cluster.decisions:
        terms.setdefault(decision.value.term, set()).add(decision.node)
    return terms


for policy in (MyElection, Forgetful):
    split = [seed for seed in range(20) if any(len(names) > 1 for names in leaders_by_term(policy, seed).values())]
    print(f"{policy.__name__}: two leaders in one term with {len(split)} of 20 seeds")

# %% [markdown]
# ## The same class over real sockets
#
# Three nodes with TLS over loopback, a file each that is really synced, and this machine's clock. Nothing of the
# class changes.

# %%
import tempfile
from pathlib import Path

from real_backends.cluster import LocalCluster, until

workshop = tempfile.TemporaryDirectory()
folder = Path(workshop.name)


def leaders(real):
    events = ((event, name) for name in real.names for event in real.events(name))
    return sorted((event["detail"][1], name) for event, name in events if event["kind"] == "decide")


async with LocalCluster(lambda name: MyElection(), ("n0", "n1", "n2"), folder) as real:
    await until(lambda: leaders(real))
    term, leader = leaders(real)[-1]
    await real.crash(leader)
    await until(lambda: leaders(real)[-1][0] > term)
    await real.start(leader)
print(leaders(real))

# %% [markdown]
# ## Replay
#
# Every node wrote a journal: each input, and a checksum of what the policy did. Fed to fresh objects, simulated or
# real, every step must do the same again. A bug met on a real machine is then a bug under a debugger.

# %%
from experiments.replay import replay
from policies.cell import Cell


def fresh(header):
    return lambda keys: Cell(MyElection(), header.node, header.peers, seed=header.seed, keys=keys)


for journals in (cluster.journals(), {name: real.journal(name) for name in real.names}):
    found = replay(journals, fresh)
    print(found.steps, "the same" if found.passed else found.divergences[0])

# %% [markdown]
# ## Hand it to the twin
#
# As a file the policy runs from the command line, with scenarios, sweeps and reports: `twin run -p my_election.py`,
# and with `world=local` over real processes. The cell that defines the class becomes the file.

# %%
import linecache
import subprocess
import sys

file = folder / "my_election.py"
file.write_text("".join(linecache.getlines(MyElection.on_start.__code__.co_filename)))
words = [sys.executable, "-m", "experiments.cli", "run", "-p", file, f"out={folder / 'run'}", "track=none", "-q"]
done = subprocess.run(words, capture_output=True, text=True, check=True)
shown = ("duration_s", "devices", "messages", "port_steps")
print("\n".join(line for line in done.stdout.splitlines() if line.split()[:1] and line.split()[0] in shown))
workshop.cleanup()
