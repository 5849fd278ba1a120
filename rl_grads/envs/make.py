"""From a config to an environment: suites, registered names, wrappers."""

from rl_grads import blame, register
from rl_grads.config import ConfigError, nearest, shown
from rl_grads.envs.environment import Environment
from rl_grads.envs.schema import Env
from rl_grads.envs.wrappers import wrap

_SUITES = ("gymnax", "gymnasium", "chain")


def make(config: Env) -> Environment:
    """The environment of a config, in its wrappers.

    Callable inside a trace: numbers in `config.params` and `config.wrappers` may be
    tracers. The costly static part of an environment is built once per id.

    Args:
        config: The environment's section of a config. A registered name comes before
            a suite's id.

    Returns:
        One instance; make many of it with `jax.vmap`.

    Raises:
        ConfigError: As `check`, or a registered function returned something else.

    Example:
        >>> environment = make(Env(id="gymnax/CartPole-v1"))
        >>> environment.num_actions, environment.time_limit
        (2, 500)
    """
    environment = wrap(_bare(config), config.wrappers)
    for name in config.wrappers.own:
        wrapper, what = register.get("wrapper", name), f"env.wrappers.own={name}"
        with blame.calling(what, wrapper):
            wrapped = wrapper(environment, config)
        environment = _checked(wrapped, blame.named(what, wrapper))
    return environment


def check(config: Env) -> None:
    """Refuse an environment that cannot be made, before anything is compiled.

    This starts JAX's backend (gymnax makes arrays on import): set the number of
    devices before.

    Args:
        config: The environment's section of a config.

    Raises:
        ConfigError: Suite, id or parameter is unknown, a dependency is missing, or
            actions or observations are of a kind that the agents here cannot use.
    """
    for key in config.kwargs:
        if key in config.params:
            expected = f"one of env.kwargs.{key} and env.params.{key}, not both"
            raise ConfigError(f"env.kwargs.{key}={config.kwargs[key]!r}: {expected}")
    if config.id in register.names("env"):
        return
    suite, name = _parts(config.id)
    if suite != "gymnasium":
        for key, value in config.kwargs.items():
            raise ConfigError(
                f"env.kwargs.{key}={value!r}: expected nothing; only the makers of "
                f"gymnasium and registered environments take arguments, not {config.id}"
            )
    if suite == "gymnax":
        from rl_grads.envs import gymnax

        return gymnax.check(name, config.params)
    for key, value in config.params.items():
        raise ConfigError(
            f"env.params.{key}={value!r}: expected nothing; only gymnax and registered "
            f"environments have parameters, not {config.id}"
        )
    if suite == "gymnasium":
        from rl_grads.envs import gymnasium

        return gymnasium.check(name, config.kwargs)
    return _check_chain(name)


def names() -> tuple[str, ...]:
    """Every id that `env.id` accepts by name: registered ones first, then suites."""
    from rl_grads.envs import chain, gymnasium, gymnax

    return (
        *register.names("env"),
        *(f"gymnax/{name}" for name in gymnax.names()),
        *(f"chain/{name}" for name in chain.names()),
        *(f"gymnasium/{name}" for name in gymnasium.names()),
    )


def _bare(config: Env) -> Environment:
    """The environment without its wrappers."""
    check(config)
    if config.id in register.names("env"):
        return _registered(config)
    suite, name = _parts(config.id)
    if suite == "gymnax":
        from rl_grads.envs import gymnax

        return gymnax.make(name, config.params)
    if suite == "gymnasium":
        from rl_grads.envs import gymnasium

        return gymnasium.make(name, config.kwargs)
    from rl_grads.envs import chain

    return chain.make(name)


def _parts(name: str) -> tuple[str, str]:
    """Suite and id within it."""
    suite, _, inner = name.partition("/")
    if suite not in _SUITES or not inner:
        raise ConfigError(
            f"env.id={shown(name)}: expected gymnax/ID, gymnasium/ID, chain/NAME or a "
            f"registered name{nearest(name, names())}"
        )
    return suite, inner


def _registered(config: Env) -> Environment:
    """What a user's function returns for its registered name."""
    maker, what = register.get("env", config.id), f"env={config.id}"
    with blame.calling(what, maker):
        environment = maker(config)
    return _checked(environment, blame.named(what, maker))


def _checked(env: object, given: str) -> Environment:
    """What a registered function has returned, if it is an environment."""
    if not isinstance(env, Environment):
        raise ConfigError(
            f"{given}: expected an rl_grads Environment, not {type(env).__name__}; "
            f"see {blame.PAGE}"
        )
    return env


def _check_chain(name: str) -> None:
    """Refuse a Markov chain that does not exist."""
    from rl_grads.envs import chain

    known = [f"chain/{n}" for n in chain.names()]
    if name not in chain.names():
        raise ConfigError(
            f"env.id={shown(f'chain/{name}')}: expected one of {', '.join(known)}"
            f"{nearest(f'chain/{name}', known)}"
        )
