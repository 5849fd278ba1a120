"""Whether a part of one's own keeps its contract: each is called once, in shapes.

What a part is given and has to return stands on the page `docs/extending.md`. Built-in
parts have their own tests and are not looked at. Nothing is computed here.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_grads import blame, prng, register
from rl_grads.agents import networks
from rl_grads.agents.agent import Agent, AgentState
from rl_grads.config import ConfigError, nearest, schema_name
from rl_grads.envs import contract
from rl_grads.envs.environment import Environment
from rl_grads.envs.make import make as make_environment
from rl_grads.gradients.estimators import About
from rl_grads.register import STATE_VALUE
from rl_grads.replay.buffer import Size
from rl_grads.replay.samplers import Stored
from rl_grads.td.transition import Signals, Transition
from rl_grads.training.checks.needs import Part, parts
from rl_grads.training.diagnostics.health import View
from rl_grads.training.engine import Given
from rl_grads.training.schema import Config
from rl_grads.typing import Function, Params, PyTree

# What the function of a kind is called with.
ARGUMENTS = {
    "agent": ("config", "num_actions"),
    "clip": ("config",),
    "diagnostic": ("view", "config"),
    "env": ("section",),
    "estimator": ("config",),
    "loss": ("network",),
    "network": ("section", "num_outputs"),
    "optimizer": ("section",),
    "priority": ("signals", "config"),
    "sampler": ("key", "stored", "count", "config"),
    "td_gradient": ("loss",),
    "trace": ("eligibility", "gradient", "decay"),
    "tracker": ("run",),
    "wrapper": ("environment", "section"),
}
_BATCH = 7  # Transitions; no other axis has this length.


class Own(NamedTuple):
    """A component of a user's own, where a config chooses it."""

    part: Part
    component: PyTree

    def __str__(self) -> str:
        return blame.named(str(self.part), self.component)

    def refuse(self, expected: str, *found: PyTree) -> ConfigError:
        """The message for what it returns, and what came in its place."""
        came = "".join(f", not {blame.shown(value)}" for value in found)
        return ConfigError(f"{self}: expected {expected}{came}; see {blame.PAGE}")

    def shapes(self, call: Function, *args: PyTree) -> PyTree:
        """The shapes of what a call of it returns."""
        with blame.calling(str(self.part), self.component):
            return jax.eval_shape(call, *args)


def check_arguments(config: Config) -> None:
    """Refuse a function of one's own that takes other arguments than its kind's.

    Raises:
        ConfigError: Names it, with file and line.
    """
    for tested in _own(config):
        wanted = ARGUMENTS[tested.part.kind]
        given = getattr(tested.component, "score", tested.component)  # Of a priority.
        if not callable(given):
            continue
        try:
            signature = inspect.signature(given)
        except (TypeError, ValueError):
            continue
        try:
            signature.bind(*wanted)
        except TypeError:
            takes = ", ".join(str(p) for p in signature.parameters.values())
            raise tested.refuse(
                f"a function of ({', '.join(wanted)}), not of ({takes})"
            ) from None


def check(config: Config, given: Given) -> None:
    """Refuse a part of one's own that does not return what its kind has to.

    Numbers of the config are traced, as they will be in the program.

    Args:
        config: The whole config.
        given: What was handed over as objects.

    Raises:
        ConfigError: Names the part, its file and line, what was expected and what
            came.
    """
    own = list(_own(config))
    handed_over = given.agent is not None or given.environment is not None
    registered = config.env.id in register.names("env") or config.env.wrappers.own
    if own or handed_over or registered:
        jax.eval_shape(functools.partial(_check, own, given), config)


def _check(own: Sequence[Own], given: Given, config: Config) -> None:
    environment = _environment(config, given)
    if given.agent is not None:
        own = [
            tested
            for tested in own
            if not tested.part.key.startswith(("agent", "network"))
        ]
        _check_agent_given(given.agent, config, environment)
    if own:
        bench = _Bench(config, environment, _agent_of(config, given))
        for kind in _ORDER:
            for tested in (tested for tested in own if tested.part.kind == kind):
                _CHECKS[kind](tested, bench)


def _own(config: Config) -> Iterator[Own]:
    for part in parts(config):
        component = register.get(part.kind, part.name)
        if blame.is_own(component):
            yield Own(part, component)


class _Read(dict):
    """Numbers by name, and which of them were asked for."""

    def __init__(self, values: Mapping[str, PyTree]):
        super().__init__(values)
        self.asked: set[object] = set()

    def __getitem__(self, name: str) -> PyTree:
        self.asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: PyTree = None) -> PyTree:
        """As of a dict."""
        self.asked.add(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.asked.add(name)
        return super().__contains__(name)

    def given(self) -> list[str]:
        """All names."""
        return list(super().__iter__())

    def __iter__(self) -> Iterator[str]:
        self.asked |= set(super().keys())
        return super().__iter__()


def _environment(config: Config, given: Given) -> Environment:
    """The environment, which keeps its contract and has read its numbers."""
    if given.environment is not None:
        name = f"env={given.environment.name}"
        contract.check_shapes(given.environment, name, given.environment.step)
        return given.environment
    registered = config.env.id in register.names("env")
    read = _Read(config.env.params)
    section = dataclasses.replace(config.env, params=read) if registered else config.env
    environment = make_environment(section)
    if registered or config.env.wrappers.own:
        whose = register.get("env", config.env.id) if registered else None
        contract.check_shapes(environment, f"env={config.env.id}", whose)
    for name in read.given() if registered else ():
        if name not in read.asked:
            known = sorted(map(str, read.asked))
            what = blame.named(f"env.params.{name}", register.get("env", config.env.id))
            raise ConfigError(
                f"{what}: expected a parameter that env={config.env.id} reads "
                f"({', '.join(known) or 'it reads none'}){nearest(name, known)}"
            )
    return environment


def _agent_of(config: Config, given: Given) -> Callable[[Environment], Agent]:
    def make(environment: Environment) -> Agent:
        make = register.get("agent", schema_name(config.agent))
        return given.agent or make(config, environment.num_actions)

    return make


# ------------------------------------------------------------- what they are given


class _Bench(NamedTuple):
    """Shapes of all that a part may be given."""

    config: Config
    environment: Environment
    make_agent: Callable[[Environment], Agent]

    @property
    def num_outputs(self) -> int:
        """Of the agent's network."""
        agent = register.get("agent", schema_name(self.config.agent))
        values = register.declared(agent).outputs == STATE_VALUE
        return 1 if values else self.environment.num_actions

    def network(self) -> PyTree:
        """The network that the config names."""
        return networks.make(self.config, self.num_outputs)

    def params(self) -> Params:
        """Its parameters."""
        init = self.network().init
        return jax.eval_shape(init, prng.key(0), self.environment.observation)

    def transition(self) -> Transition:
        """One transition."""
        obs = self.environment.observation
        number = jax.ShapeDtypeStruct((), jnp.result_type(float))
        flag, action = (jax.ShapeDtypeStruct((), t) for t in (bool, jnp.int32))
        once: tuple[Any, ...] = (
            obs,
            action,
            number,
            obs,
            flag,
            flag,
            number,
            number,
            action,
        )
        second: tuple[Any, ...] = (number, obs, number, number)
        return Transition(*once, *(second if self.environment.redraws else ()))

    def batch(self) -> Transition:
        """A batch of them."""
        return _stacked(self.transition(), _BATCH)

    def loss(self) -> Function:
        """The loss that the config names, of one transition."""
        name = getattr(self.config.agent, "loss", "td")
        return register.get("loss", name)(self.network())

    def signals(self) -> Signals:
        """What a batch says."""
        number: Any = jax.ShapeDtypeStruct((_BATCH,), jnp.result_type(float))
        return Signals(number, {}, number)


def _stacked(tree: PyTree, size: int) -> PyTree:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((size, *x.shape), x.dtype), tree)


def _is(value: PyTree, shape: tuple[int, ...]) -> bool:
    return getattr(value, "shape", None) == shape


# --------------------------------------------------------------------- kind by kind


def _loss(tested: Own, bench: _Bench) -> None:
    with blame.calling(str(tested.part), tested.component):
        loss = tested.component(bench.network())
    _of_one_transition(tested, loss, bench)


def _td_gradient(tested: Own, bench: _Bench) -> None:
    with blame.calling(str(tested.part), tested.component):
        loss = tested.component(bench.loss())
    _of_one_transition(tested, loss, bench)


def _of_one_transition(tested: Own, loss: PyTree, bench: _Bench) -> None:
    if not callable(loss):
        words = "a function of (params, bootstrap_params, transition, config)"
        raise tested.refuse(words, loss)
    params = bench.params()

    def call(params: Params, bootstrap_params: Params, now: Transition) -> PyTree:
        return loss(params, bootstrap_params, now, bench.config)

    for wrong in _wrong_loss(tested.shapes(call, params, params, bench.transition())):
        raise tested.refuse(*wrong)


def _wrong_loss(found: PyTree) -> Iterator[tuple[str, PyTree]]:
    """What a loss has to return, with what came in its place."""
    pair = isinstance(found, tuple) and len(found) == 2
    if not (pair and isinstance(found[1], Signals)):
        yield "(scalar, Signals(td_error)) of one transition", found
        return
    value, signals = found
    if not _is(value, ()):
        yield "a scalar loss of one transition", value
    if not _is(signals.td_error, ()):
        yield "a scalar Signals.td_error", signals.td_error
    for name, extra in signals.extra.items():
        if not _is(extra, ()):
            yield f"a scalar Signals.extra[{name!r}]", extra


def _network(tested: Own, bench: _Bench) -> None:
    with blame.calling(str(tested.part), tested.component):
        network = tested.component(bench.config.network, bench.num_outputs)
    if not (hasattr(network, "init") and hasattr(network, "apply")):
        words = "something with init(key, obs) and apply(params, obs)"
        raise tested.refuse(words, network)
    obs = bench.environment.observation

    def call(key: jax.Array, obs: jax.Array) -> PyTree:
        return network.apply(network.init(key, obs), obs)

    found = tested.shapes(call, prng.key(0), obs)
    if not _is(found, (bench.num_outputs,)):
        raise tested.refuse(f"outputs [{bench.num_outputs}]", found)


def _priority(tested: Own, bench: _Bench) -> None:
    found = tested.shapes(lambda s: tested.component(s, bench.config), bench.signals())
    if not _is(found, (_BATCH,)):
        raise tested.refuse(
            f"scores of the shape of a batch [B], not {blame.shown(found)}"
        )


def _sampler(tested: Own, bench: _Bench) -> None:
    training = bench.config.training
    size = Size(rows=100, num_envs=training.num_envs, num_steps=1, side=0)
    time = jax.ShapeDtypeStruct((), jnp.int32)

    def call(time: jax.Array) -> PyTree:
        return tested.component(prng.key(0), Stored(size, time), _BATCH, bench.config)

    found = tested.shapes(call, time)
    if not (_is(found, (_BATCH,)) and jnp.issubdtype(found.dtype, jnp.integer)):
        raise tested.refuse("integer slots [count]", found)


def _transformation(tested: Own, bench: _Bench) -> None:
    section = (
        bench.config.optimizer if tested.part.kind == "optimizer" else bench.config
    )
    with blame.calling(str(tested.part), tested.component):
        transformation = tested.component(section)
    if not (hasattr(transformation, "init") and hasattr(transformation, "update")):
        raise tested.refuse("an optax.GradientTransformation", transformation)
    params = bench.params()

    def call(params: Params) -> PyTree:
        return transformation.update(params, transformation.init(params), params)

    found = tested.shapes(call, params)
    if not (isinstance(found, tuple) and len(found) == 2):
        raise tested.refuse(
            f"update() to return (updates, state), not {blame.shown(found)}"
        )
    if not _alike(found[0], params):
        raise tested.refuse("updates of the parameters' shapes")


def _alike(tree: PyTree, other: PyTree) -> bool:
    """Whether two trees have the same structure and shapes."""
    if jax.tree.structure(tree) != jax.tree.structure(other):
        return False
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    return all(a.shape == b.shape for a, b in pairs)


def _estimator(tested: Own, bench: _Bench) -> None:
    with blame.calling(str(tested.part), tested.component):
        estimator = tested.component(bench.config)
    if not (hasattr(estimator, "init") and hasattr(estimator, "update")):
        raise tested.refuse("an Estimator(init, update)", estimator)
    params, loss = bench.params(), bench.loss()

    def call(params: Params, batch: Transition) -> PyTree:
        about = About(loss, params, params, batch, None, bench.config)
        return estimator.update(estimator.init(params), prng.key(0), about)

    found = tested.shapes(call, params, bench.batch())
    if not (isinstance(found, tuple) and len(found) == 3):
        words = "update() to return (gradient, signals, state)"
        raise tested.refuse(words, found)
    if not _alike(found[0], params):
        raise tested.refuse("a gradient of the parameters' shapes")


def _diagnostic(tested: Own, bench: _Bench) -> None:
    agent, loss = bench.make_agent(bench.environment), bench.loss()

    def call(key: jax.Array, obs: jax.Array, batch: Transition) -> PyTree:
        state = agent.init(key, obs, bench.config)

        def now(params: Params, transition: Transition) -> PyTree:
            return loss(params, state.params, transition, bench.config)

        view = View(batch, jnp.arange(_BATCH), now, key, state)
        return tested.component(view, bench.config)

    found = tested.shapes(
        call, prng.key(0), bench.environment.observation, bench.batch()
    )
    values = found if isinstance(found, Mapping) else {"": found}
    for name, value in values.items():
        if not _is(value, ()):
            which = f"a number under {name!r}" if name else "a number, or several"
            raise tested.refuse(which, value)


def _trace(tested: Own, bench: _Bench) -> None:
    params, decay = bench.params(), jax.ShapeDtypeStruct((), jnp.result_type(float))
    if not callable(tested.component):
        return
    found = tested.shapes(tested.component, params, params, decay)
    if not _alike(found, params):
        raise tested.refuse("a trace of the parameters' shapes", found)


def _agent(tested: Own, bench: _Bench) -> None:
    config = bench.config
    if not hasattr(config.agent, "discount"):
        derived = "derived from rl_grads.agents.schema.QLearning or Prediction"
        raise tested.refuse(f"a schema with `discount` beside its name, {derived}")
    with blame.calling(str(tested.part), tested.component):
        agent = tested.component(config, bench.environment.num_actions)
    if not isinstance(agent, Agent):
        raise tested.refuse("an rl_grads.agents.Agent", agent)
    _check_functions(tested, agent, bench)


def _check_functions(tested: Own, agent: Agent, bench: _Bench) -> None:
    shapes = tested.shapes
    config, obs = bench.config, bench.environment.observation
    state = shapes(lambda key, obs: agent.init(key, obs, config), prng.key(0), obs)
    if not isinstance(state, AgentState):
        raise tested.refuse("init() to return an AgentState", state)
    if agent.act is not None:
        act = agent.act
        action = shapes(lambda s, k, o: act(s, k, o, config), state, prng.key(0), obs)
        if not (_is(action, ()) and jnp.issubdtype(action.dtype, jnp.integer)):
            raise tested.refuse("act() to return an integer action", action)
    if config.replay is None:
        return  # Its batches are in order of time; the program itself tells.
    found = shapes(lambda s, b: agent.update(s, b, None, config), state, bench.batch())
    if not (isinstance(found, tuple) and len(found) == 2):
        raise tested.refuse("update() to return (state, Update)", found)
    if not _alike(found[0], state):
        raise tested.refuse(
            "update() to return a state of the shapes that init() makes"
        )


def _nothing(tested: Own, bench: _Bench) -> None:
    """Its arguments and its result are checked where it is made."""


_ORDER = (
    "network",
    "loss",
    "td_gradient",
    "clip",
    "optimizer",
    "estimator",
    "priority",
    "sampler",
    "trace",
    "agent",
    "diagnostic",
    "env",
    "wrapper",
    "tracker",
)
_CHECKS: dict[str, Callable[[Own, _Bench], None]] = {
    "agent": _agent,
    "clip": _transformation,
    "diagnostic": _diagnostic,
    "env": _nothing,
    "estimator": _estimator,
    "loss": _loss,
    "network": _network,
    "optimizer": _transformation,
    "priority": _priority,
    "sampler": _sampler,
    "td_gradient": _td_gradient,
    "trace": _trace,
    "tracker": _nothing,
    "wrapper": _nothing,
}


def _check_agent_given(agent: Agent, config: Config, environment: Environment) -> None:
    """The loss of an agent that was handed over."""
    if not isinstance(agent, Agent):
        found = blame.shown(agent)
        raise ConfigError(f"agent: expected an rl_grads.agents.Agent, not {found}")
    what = "the loss of the agent that was handed over"
    bench = _Bench(config, environment, lambda environment: agent)

    def call(key: jax.Array, obs: jax.Array, now: Transition) -> PyTree:
        params = agent.init(key, obs, config).params
        return agent.loss(params, params, now, config)

    with blame.calling(what, None):
        obs = environment.observation
        found = jax.eval_shape(call, prng.key(0), obs, bench.transition())
    for words, came in _wrong_loss(found):
        said = f"expected {words}, not {blame.shown(came)}"
        raise ConfigError(f"{what}: {said}; see {blame.PAGE}")
