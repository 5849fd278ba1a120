"""`rl-grads audit`: which parameters a config's loss moves, and by which term."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rl_grads.cli import plugins
from rl_grads.config import ConfigError, schema_name
from rl_grads.training.schema import Config

if TYPE_CHECKING:
    from rl_grads.inspection.audit import Audit

COMMAND = "rl-grads audit"
_THROUGH = ("full", "interpolate", "residual")
_DIRECTIONS = ("gtd2", "tdc", "tdrc", "qrc")

_HELP = """\
usage: rl-grads audit [KEY=VALUE ...] [--plugin MODULE] [--config-dir DIR]

Print where the gradient of a config's loss flows: its L2 norm for every term of the
loss and every group of parameters, on the environment's first transitions and at fresh
parameters. Nothing is trained and nothing is written. The keys are those of
rl-grads train.

examples:
  rl-grads audit                                           the main job
  rl-grads audit experiment=random_walk agent.td_gradient=full
  rl-grads audit --plugin my_module agent.loss=my_loss     does my loss stop its target?

The exit status is 1 if gradient passes through a bootstrap although
agent.td_gradient does not say so: a target network that leaks, or is not used."""


def main(argv: Sequence[str]) -> int:
    """Print the table.

    Args:
        argv: Arguments after `rl-grads audit`.

    Returns:
        The exit status: 1 for a leak, 2 for bad input.
    """
    from rl_grads.cli import errors

    found: list[int] = []
    status = errors.guard(COMMAND, argv, lambda _: found.append(_main(argv)))
    return status or found[0]


def _main(argv: Sequence[str]) -> int:
    from rl_grads.cli import compose

    names, rest = plugins.split(argv)
    plugins.load(names)
    compose.store_schemas()
    if {"-h", "--help"} & set(rest):
        print(_HELP)
        return 0
    config = _read([compose.spell(argument) for argument in rest])
    from rl_grads.training import backend

    backend.start(config)
    from rl_grads.inspection.flow import gradient_flow

    found = gradient_flow(config)
    print("\n".join([_title(config), "", *_table(found, config), "", *_words(config)]))
    leak = bool(found.leaks) and _td_gradient(config) not in _THROUGH
    print(_verdict(list(found.leaks), config))
    return int(leak)


def _read(arguments: Sequence[str]) -> Config:
    """The checked config of a command line.

    Raises:
        ConfigError: It asks for more than one config, or for something else.
    """
    from rl_grads.cli import compose, door

    request = compose.read(arguments)
    if request.multirun or not request.runs:
        flag = next(a for a in arguments if a.startswith(("-", "hydra.mode")))
        raise ConfigError(f"{flag}: expected an option of {COMMAND} (see --help)")
    with compose.composer(request) as composed:
        whole = composed(request.flags.overrides, False)
        door.refuse_code(whole.hydra)
        config = compose.to_config(compose.without_hydra(whole))
    if config.resume is not None:
        expected = "expected null: an audit looks at fresh parameters"
        raise ConfigError(f"resume={config.resume}: {expected}")
    return config


# ------------------------------------------------------------------------- what it says


def _td_gradient(config: Config) -> str:
    return getattr(config.agent, "td_gradient", "semi")


def _has_target(config: Config) -> bool:
    target = getattr(config.agent, "target", None)
    return target is not None and (target.period or target.polyak) is not None


def _title(config: Config) -> str:
    loss = getattr(config.agent, "loss", None)
    named = f" agent.loss={loss}" if loss else ""
    what = f"agent={schema_name(config.agent)}{named} env={config.env.id}"
    return f"L2 norms of the gradient, {what}"


def _table(found: "Audit", config: Config) -> Iterable[str]:
    """A line per group of parameters, a column per term."""
    held = "target" if _has_target(config) else "bootstrap"
    rows = [("parameters", *found.update)]
    for name, table in (("online", found.update), (held, found.held)):
        for group in table["loss"]:
            cells = (str(flows[group]) for flows in table.values())
            rows.append((f"{name}.{group}", *cells))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = (c.rjust(w) for c, w in zip(rest, widths[1:], strict=True))
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()


def _words(config: Config) -> Iterable[str]:
    yield "-: no path with a derivative leads there; 0: one does, but it is zero here."
    if _has_target(config):
        yield "target: held fixed; an update differentiates in online alone."
    else:
        yield "bootstrap: the same parameters, where an update holds them fixed."


def _verdict(leaks: Sequence[str], config: Config) -> str:
    """Whether the loss does what the config says."""
    name = _td_gradient(config)
    says = f"agent.td_gradient={name}"
    if leaks and name not in _THROUGH:
        groups = ", ".join(leaks)
        return (
            f"LEAK: through a bootstrap, gradient reaches online parameters: {groups}."
        )
    if name in _THROUGH:
        return f"Gradient passes through the bootstrap, as {says} asks."
    if name in _DIRECTIONS:
        return f"The update is the direction of {says}, not this gradient."
    return "No gradient passes through a bootstrap: a semi-gradient."
