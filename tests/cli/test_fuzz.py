"""Random configs: each is trained, or refused by one short line that names a key."""

import contextlib
import math
import random
import signal
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

import rl_grads as rg
from rl_grads import config as configs
from rl_grads.cli import compose, door, errors, train
from rl_grads.config import SCHEMAS, Field, Interval, walk
from rl_grads.training import evaluation, loop
from rl_grads.training.engine import Given, parts
from rl_grads.training.schema import Config

BLOCKS, BLOCK = 20, 100  # 2000 configs, by seed.
TRACED, TRAINED = 5, 1  # Accepted ones, per block.
LONGEST = 600  # Characters of a message.
SECONDS = 60.0  # For one config.
LARGEST = 2**22  # Numbers in the state of a member that is trained.

ENVIRONMENTS = (
    "chain/random_walk",
    "chain/baird",
    "chain/boyan",
    "chain/blind_cliffwalk",
    "gymnax/CartPole-v1",
    "gymnax/Breakout-MinAtar",
    "gymnax/Acrobot-v1",
    "gymnax/Pendulum-v1",
    "gymnasium/FrozenLake-v1",
    "gymnasium/CartPole-v1",
    "gymnasium/Pendulum-v1",
    "gymnax/Nothing",
    "nothing",
)
INTEGERS = (0, 1, 2, 3, 7, 64, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 10**12)
FLOATS = (0.0, 1e-320, 1e-50, 1e-30, 1e-3, 0.5, 1.0, 2.0, 1e3, 1e30, 1e39, 1e300)
ODD = (
    *("nan", "inf", "-inf", "null", "", "''", "true", "abc", "'a b'", "ü", "0x10"),
    *("[]", "[1]", "[[1]]", "[nan]", "[null]", "[a]", "{}", "{a:1}", "{a:{b:1}}"),
    *("-1", "-0.0", "1.5", "1e3", "1_000", "1e400", "-1e39", "9" * 320, "9" * 5000),
    *("a" * 300, "a" * 5000, "a,b", "1,2", "${seed}", "${nothing}", "${oc.env:HOME}"),
    *("../x", "/", ".", "=", "a=b", "[", "a/b", "\\n", "@", "~", "+"),
)


# -------------------------------------------------------------------------- generating


def command_line(seed: int) -> list[str]:
    """Overrides of some groups and some keys, mostly such as one might write."""
    rng = random.Random(seed)
    chosen = {group: _choice(rng, group) for group in _some(rng, compose.GROUPS, 3)}
    known = _fields(rng, chosen)
    keys = _some(rng, sorted(known), rng.choice([1, 2, 4, 8]))
    words = [f"{group}={name}" for group, name in chosen.items()]
    words += [f"{_key(key)}={_value(rng, known[key])}" for key in keys]
    words += ONLINE if rng.random() < 0.3 else ()
    if rng.random() < 0.2:
        words += [f"meta.learn=[{rng.choice(LEARNED)}]", "agent.discount=0.9"]
    rng.shuffle(words)
    return words


ONLINE = ("replay=null", "training.updates_per_iteration=1")
LEARNED = (
    *("agent.discount", "optimizer.learning_rate", "replay.exponent", "optimizer"),
    *("agent.trace_decay", "agent.behaviour_policy.epsilon", "initial_parameters"),
)


def _some(rng: random.Random, names: Any, most: int) -> list[str]:
    return rng.sample(list(names), min(len(names), rng.randint(0, most)))


def _choice(rng: random.Random, group: str) -> str:
    if rng.random() < 0.08:
        return rng.choice(ODD)
    return rng.choice(ENVIRONMENTS if group == "env" else compose.choices(group))


def _fields(rng: random.Random, chosen: dict[str, str]) -> dict[str, Field]:
    """The keys that the chosen sections have; those of the defaults elsewhere."""
    whole = Config()
    for group, name in chosen.items():
        made = SCHEMAS.get(f"{group}/{name}")
        whole = whole if made is None else configs.replace(whole, {group: made()})
    sections = rng.random() < 0.1
    return {p: field for p, field, _ in walk(whole) if sections or not field.is_group}


def _key(path: str) -> str:
    """A key of a mapping where the field is one."""
    items = {"env.params": "gravity", "optimizer.layer_factors": "Dense_0"}
    return f"+{path}.{items[path]}" if path in items else path


def _value(rng: random.Random, field: Field) -> str:
    if rng.random() < 0.12 or field.is_group:
        return rng.choice(ODD)
    if "None" in str(field.type) and rng.random() < 0.2:
        return "null"
    if "tuple" in str(field.type):
        items = [_one(rng, field) for _ in range(rng.randint(0, 3))]
        return f"[{','.join(items)}]"
    return _one(rng, field)


def _one(rng: random.Random, field: Field) -> str:
    names = getattr(field.domain, "names", None)
    if names is not None:
        return rng.choice(names or ["nobody_has_registered_one"])
    if field.type is bool:
        return rng.choice(["true", "false"])
    if isinstance(field.domain, Interval):
        return str(rng.choice(_numbers(rng, field)))
    return rng.choice(["a", "agent.discount", "optimizer.learning_rate", "auto"])


def _numbers(rng: random.Random, field: Field) -> list[float]:
    """Numbers inside the domain for the most part, its ends, and beyond them."""
    low, high = field.domain.low, field.domain.high
    every = FLOATS if field.is_leaf else INTEGERS
    ends = [x for x in (low, high) if math.isfinite(x)]
    inside = [x for x in (*every, *ends) if x in field.domain]
    beyond = [x - 1 for x in ends] + [x + 1 for x in ends] + [-every[5]]
    return beyond if rng.random() < 0.1 else inside


# ------------------------------------------------------------------------------ trying


class TookTooLong(BaseException):
    """No library catches it."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `TookTooLong` after so many seconds."""

    def late(*_: Any) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Outcome(NamedTuple):
    """What the door said: a config, or a finding that is empty for a good refusal."""

    config: Config | None
    finding: str


def at_the_door(argv: list[str]) -> Outcome:
    """Compose and check as the command does."""
    accepted: list[Config] = []

    def fits(config: Config) -> None:
        train._fits(config)
        accepted.append(config)

    try:
        request = compose.read([compose.spell(word) for word in argv])
        door.check(request, fits)
    except errors.KNOWN as error:
        return Outcome(None, _complaint(errors.explain(error, argv), argv))
    return Outcome(accepted[0], "")


def _complaint(text: str, argv: list[str]) -> str:
    """What is wrong with a message; empty if nothing is."""
    if len(text) >= LONGEST or len(text.splitlines()) != 1:
        return f"a long message: {text}"
    keys = [word.partition("=")[0].lstrip("+~") for word in argv]
    return "" if any(key in text for key in keys) else f"names no key: {text}"


def trace(config: Config) -> int:
    """Trace all of training in shapes; the numbers in the state of a member."""

    def whole(config: Config, key: jax.Array) -> Any:
        the = parts(Given(None, None), config)
        member = loop.init(the, key)
        if the.size is not None:
            member = loop.warm_up(the, member, jnp.int32(0), jnp.int32(1))
        moved, metrics, _ = loop.iterate(the, member, jnp.int32(0))
        return member, metrics, evaluation.evaluate(the, moved, jnp.int32(1))

    with jax.enable_x64(config.precision == "float64"):
        member, *_ = jax.eval_shape(whole, config, jax.random.key(0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(member))


def is_small(config: Config, size: int) -> bool:
    """Whether two updates take no more than a few seconds and a little memory."""
    names = ("num_envs", "num_steps", "updates_per_iteration", "batch_size")
    counts = [getattr(config.training, name) for name in names]
    others = (config.diagnostics.examples, config.meta.steps, config.meta.particles)
    large = getattr(config.replay, "large_batch", 1)
    return size < LARGEST and max(*counts, *others, large) < 2000


def train_twice(config: Config) -> None:
    """Two iterations of two members, as if a run ended there."""
    per = config.training.num_envs * config.training.num_steps
    changes = {
        "seeds": 2,
        "seed": min(config.seed, 2**32 - 2),
        "resume": None,
        "training.warmup_steps": per,
        "training.total_steps": 3 * per,
        "evaluation.episodes": 2,
        "evaluation.max_steps": 20,
    }
    result = rg.train(members=rg.population(configs.replace(config, changes)))
    assert result.steps[-1] == 3 * per


def attempt(call: Any, *arguments: Any) -> tuple[Any, str]:
    """What a call returns, and what it raised in words."""
    try:
        with limited(SECONDS):
            return call(*arguments), ""
    except (Exception, TookTooLong) as error:
        return None, f"{type(error).__name__}: {str(error)[:300]}"


class Tried(NamedTuple):
    """What came of some seeds: accepted configs and findings, by seed."""

    accepted: dict[int, Config]
    findings: dict[int, Any]


def try_all(seeds: range) -> Tried:
    """Show every config to the door."""
    tried = Tried({}, {})
    for seed in seeds:
        argv = command_line(seed)
        outcome, raised = attempt(at_the_door, argv)
        finding = raised or outcome.finding
        if finding:
            tried.findings[seed] = (finding, argv)
        elif outcome.config is not None:
            tried.accepted[seed] = outcome.config
    return tried


def run_some(accepted: dict[int, Config]) -> dict[int, str]:
    """Trace the first of the accepted configs, train the first small ones; findings."""
    findings, left = {}, TRAINED
    for seed, config in list(accepted.items())[:TRACED]:
        size, findings[seed] = attempt(trace, config)
        if left and not findings[seed] and is_small(config, size):
            left -= 1
            _, findings[seed] = attempt(train_twice, config)
    return {seed: finding for seed, finding in findings.items() if finding}


# ------------------------------------------------------------------------------- tests


@pytest.fixture
def schemas(command):
    """Hydra knows the schemas; what JAX was set to comes back, as after a command."""
    compose.store_schemas()


def test_a_few_random_configs(schemas):
    tried = try_all(range(20))
    assert tried.findings == {}
    assert 2 <= len(tried.accepted) <= 18


@pytest.mark.slow
@pytest.mark.parametrize("block", range(BLOCKS))
def test_random_configs_are_refused_by_one_line_or_run(schemas, block):
    """A finding is printed with its seed; `command_line(seed)` makes it again."""
    tried = try_all(range(block * BLOCK, (block + 1) * BLOCK))
    assert tried.findings == {}
    assert tried.accepted
    assert run_some(tried.accepted) == {}


def test_what_a_finding_is():
    argv = ["+env.params.gravity=1", "agent=td_lambda"]
    assert _complaint("env.params.gravity=1: expected nothing", argv) == ""
    assert _complaint("replay=buffer: expected null beside agent=td_lambda", argv) == ""
    assert _complaint("expected a number", argv) == "names no key: expected a number"
    assert _complaint("agent\nagent", argv) == "a long message: agent\nagent"
    assert _complaint("agent" * 120, argv).startswith("a long message: agent")
    assert _complaint("", argv).startswith("a long message")


def test_what_takes_too_long_is_a_finding(monkeypatch):
    monkeypatch.setitem(globals(), "SECONDS", 0.01)
    assert attempt(time.sleep, 5.0) == (None, "TookTooLong: ")
