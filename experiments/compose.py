"""From words on the command line to plain data: Hydra over conf/, and one clear line for every mistake.

Hydra lives at this edge only: what leaves is plain data for `scenarios.schema.build`, and the run's options.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

CONF = Path(__file__).resolve().parent.parent / "conf"
LISTS = {"config": ("faults", "adversaries"), "fleet": ("outages",)}  # fields that are lists, by root
FLEET_GROUPS = ("policy/harvest", "scenario")
TRACKERS = ("mlflow", "none")
POINTS_MAX = 100_000  # of a grid: each is composed before the first runs, and this many take hours to be
FLAGS = {"--fresh": "fresh", "--really": "really", "--json": "json", "--quiet": "quiet", "-q": "quiet"}


class UsageError(ValueError):
    """The user's words cannot be run; the message is one line for them."""


@dataclass(frozen=True)
class RunOptions:
    """What a run is told beside its scenario.

    Attributes:
        out: folder of the Run, instead of runs/SCENARIO/KEY-SEED.
        track: ``mlflow`` or ``none``.
        fresh: repeat a finished simulated run.
        really: allow a real run of more than ten minutes.
        policy_alias: refuse any policies but those registered under this alias.
        policy_file: ``FILE.py`` or ``FILE.py:Class``, a policy of the user's own.
        json: print the result as JSON.
        quiet: no progress.
    """

    out: Path | None = None
    track: str = "mlflow"
    fresh: bool = False
    really: bool = False
    policy_alias: str = ""
    policy_file: str = ""
    json: bool = False
    quiet: bool = False


def compose(words: Sequence[str]) -> tuple[dict[str, Any], RunOptions]:
    """Compose the scenario and the options that the words of a command line name.

    >>> plain, options = compose(["scenario=four_desks", "seed=7", "track=none"])
    >>> plain["name"], plain["seed"], plain["fleet"]["desktops"], options.track
    ('four_desks', 7, 4, 'none')

    Raises:
        UsageError: an unknown group, choice, option or malformed word.
    """
    overrides, options = split(words)
    if options.policy_file and not any(word.startswith("scenario=") for word in overrides):
        overrides = ["scenario=alone", *overrides]  # a policy of one's own, by itself
    return compose_plain(overrides), options


def split(words: Iterable[str]) -> tuple[list[str], RunOptions]:
    """Separate Hydra's overrides from the options of the run."""
    overrides: list[str] = []
    options = RunOptions()
    rest = iter(words)
    for word in rest:
        key, equals, value = word.partition("=")
        if word in FLAGS:
            options = replace(options, **{FLAGS[word]: True})  # type: ignore[arg-type]
        elif word in ("-p", "--policy"):
            options = replace(options, policy_file=next(rest, ""))
            if not options.policy_file:
                raise UsageError("-p: a file is needed, e.g. -p my_policy.py")
        elif word.startswith("-"):
            raise UsageError(f"{word}: no such option; {_nearest(word, [*FLAGS, '-p'])}")
        elif not equals or not key:
            raise UsageError(f"{word!r}: expected key=value, e.g. seed=7 or scenario=four_desks")
        elif key == "out":
            if not value:
                raise UsageError("out='': a folder is needed, e.g. out=runs/mine")
            options = replace(options, out=in_home(value))
        elif key == "track":
            if value not in TRACKERS:
                raise UsageError(f"track={value}: no such tracker; {_nearest(value, TRACKERS)}")
            options = replace(options, track=value)
        elif key == "policy.alias":
            if not value:
                raise UsageError("policy.alias='': a name is needed, e.g. policy.alias=candidate")
            options = replace(options, policy_alias=value)
        else:
            overrides.append(word)
    return overrides, options


def compose_plain(overrides: Sequence[str]) -> dict[str, Any]:
    """Compose conf/ under ``overrides`` into plain data; its fields are checked later, by the schema."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    root = root_of(overrides)
    checked = [_checked(word, root) for word in overrides]
    try:
        with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
            config = hydra_compose(root, overrides=checked)
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        cause = (str(error.__cause__ or error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"{' '.join(overrides)}: {cause}") from None
    for key in LISTS[root]:
        _listed(plain, key)
    return plain  # type: ignore[no-any-return]


def root_of(overrides: Sequence[str]) -> str:
    """Return the file of conf/ that the chosen scenario is composed on: ``fleet`` where it says ``kind: fleet``.

    >>> root_of(["seed=7", "scenario=million_day"]), root_of([])
    ('fleet', 'config')
    """
    chosen = [word.partition("=")[2] for word in overrides if word.startswith("scenario=")]
    known = chosen and chosen[-1] in groups()["scenario"]  # another name is refused later, whatever it looks like
    text = (CONF / "scenario" / f"{chosen[-1]}.yaml").read_text().splitlines() if known else []
    return "fleet" if "kind: fleet" in text else "config"


def build(plain: dict[str, Any]) -> Any:
    """Build the scenario that composed plain data describes: a village's or a fleet's.

    Raises:
        scenarios.schema.ScenarioError: one line for the user.
    """
    from scenarios import fleet, schema

    return fleet.build(plain) if plain.get("kind") == "fleet" else schema.build(plain)


def in_home(text: str) -> Path:
    """Return the path that a user writes, ``~`` and ``~name`` as in a shell.

    Raises:
        UsageError: nobody of that name has a home here.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageError(f"{text}: no such user's home; allowed: a path, or one that begins with ~/") from None


def points(words: Sequence[str]) -> list[list[str]]:
    """Expand comma lists and ranges (``seed=1..8``) into one list of overrides for each point of the grid.

    >>> points(["seed=1..2", "network=home,loopback"])[1:3]
    [['seed=1', 'network=loopback'], ['seed=2', 'network=home']]
    """
    axes = []
    for word in words:
        key, _, value = word.partition("=")
        axes.append([f"{key}={one}" for one in _values(word, value)])
    if (many := math.prod(map(len, axes))) > POINTS_MAX:
        raise UsageError(f"{' '.join(words)}: {many:,} points; allowed: up to {POINTS_MAX:,} in one grid")
    return [list(point) for point in itertools.product(*axes)]


def groups() -> dict[str, list[str]]:
    """Return the groups of conf/ and their choices."""
    found: dict[str, list[str]] = {}
    for file in sorted(CONF.rglob("*.yaml")):
        group = file.parent.relative_to(CONF).as_posix()
        if group != ".":
            found.setdefault(group, []).append(file.stem)
    return found


def _values(word: str, value: str) -> list[str]:
    span = re.fullmatch(r"(-?\d{1,18})\.\.(-?\d{1,18})", value)
    if span:
        first, last = int(span[1]), int(span[2])
        if last < first:
            raise UsageError(f"{word}: the range is empty; its first number must not be above its last")
        if last - first >= POINTS_MAX:
            raise UsageError(f"{word}: {last - first + 1:,} values; allowed: up to {POINTS_MAX:,} in one grid")
        return [str(i) for i in range(first, last + 1)]
    if "," not in value or value[:1] in "[{'\"":
        return [value]
    values = [part for part in value.split(",") if part]
    if not values:
        raise UsageError(f"{word}: the list is empty")
    return values


def _checked(word: str, root: str) -> str:
    """Return the override as Hydra shall see it, or refuse it with the choices there are."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, _, value = word.partition("=")
    known = groups()
    if key in known:
        if root == "fleet" and key not in FLEET_GROUPS:
            raise UsageError(f"{word}: a fleet has no such group; allowed: {', '.join(FLEET_GROUPS)}")
        if value not in known[key]:
            raise UsageError(f"{key}={value}: no such choice; {_nearest(value, known[key])}")
        return word
    if any(group.startswith(f"{key}/") for group in known):
        inner = [group for group in known if group.startswith(f"{key}/")]
        raise UsageError(f"{word}: {key} holds several groups; choose in {', '.join(inner)}")
    if not re.fullmatch(r"[A-Za-z_][\w]*([./][\w]+|\[\d+\])*", key):
        raise UsageError(f"{word}: {key!r} is no field's name, e.g. fleet.phones=100")
    if "/" in key:
        raise UsageError(f"{key}: no such group; {_nearest(key, known)}")
    try:
        parsed = OverridesParser.create().parse_override(word)
    except HydraException:
        raise UsageError(f"{word}: cannot read the value; quote it, e.g. '{key}=\"...\"'") from None
    if parsed.is_sweep_override():
        raise UsageError(f"{word}: a list of values is for `twin sweep` or `twin run -m`")
    _refuse_unknown_root(key, root)
    return f"++{word}"  # unknown fields below the root are the schema's to explain


def _refuse_unknown_root(key: str, root: str) -> None:
    from msgspec.structs import fields

    from scenarios.fleet import FleetScenario
    from scenarios.schema import Scenario

    top = re.split(r"[.\[]", key)[0]
    names = [field.name for field in fields(FleetScenario if root == "fleet" else Scenario)]
    if top not in names:
        chosen = ["policy/harvest", "scenario"] if root == "fleet" else list(groups())
        known = [*names, *chosen, "out", "track", "policy.alias"]
        raise UsageError(f"{top}: no such field or group; {_nearest(top, known)}")


def _listed(plain: dict[str, Any], key: str) -> None:
    """Refuse a list that an override such as ``faults.0.at_s`` has turned into something else."""
    if not isinstance(plain.get(key), list):
        raise UsageError(f"{key}={plain.get(key)!r}: must be a list")


def _nearest(word: str, allowed: Iterable[str]) -> str:
    names = list(dict.fromkeys(allowed))
    near = difflib.get_close_matches(word, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(names)}"
