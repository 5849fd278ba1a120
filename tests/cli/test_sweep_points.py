"""Points that are changed in place are what Hydra would compose one by one."""

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from rl_grads.cli import compose, sweep_points
from rl_grads.config.document import to_document

RUN = "run.id=x"  # Its name is the time otherwise.


def composed(*argv):
    """Every point of a command line: as a sweep composes it, and as Hydra does."""
    compose.store_schemas()
    request = compose.read(["-m", *(compose.spell(a) for a in (RUN, *argv))])
    overrides = request.flags.overrides
    with compose.composer(request) as hydras:
        master = hydras(overrides, True)
        loader = GlobalHydra.instance().config_loader()
        sources = sweep_points.Sources(loader, master)
        jobs = sweep_points.split(sources, overrides)
        found = list(sweep_points.compose_all(sources, jobs))
        one_by_one = [compose.without_hydra(hydras(job, False)) for job in jobs]
        alone = [OmegaConf.to_container(one, resolve=False) for one in one_by_one]
        configs = [compose.to_config(one) for one in one_by_one]
    return found, alone, configs


@pytest.mark.parametrize(
    "argv",
    [
        ("optimizer.learning_rate=1e-3,2,1e-4", "agent.discount=.9,1"),
        ("agent=q_learning,sarsa", "seeds=1,2", "optimizer.b1=.8,.9"),
        ("replay=per,none", "training.total_steps=1000,2e3"),
        ("experiment=train,boyan", "optimizer.learning_rate=.1,.2"),
        ("network=mlp", "network.hidden=[8],[4,4]", "gradient.update.clip=null,agc"),
        ("meta.optimizer.learning_rate=.1,.2", "optimizer.learning_rate=.3,.4"),
        ("optimizer.learning_rate=.1,.2", "agent.discount=${optimizer.learning_rate}"),
        (
            "evaluation.average_window=null,.1",
            "+env.params={gravity:9.0},{gravity:8.0}",
        ),
        ("tracking.wandb.tags=[a],[b,c]", "replay.exponent=.5,.7"),
    ],
)
def test_points_are_what_hydra_composes(argv):
    found, alone, configs = composed(*argv)
    assert len(found) == len(configs) > 1
    for point, one, config in zip(found, alone, configs, strict=True):
        assert point.refused == ""
        assert to_document(point.config) == to_document(config)
        assert point.composed == one
    assert len({str(to_document(point.config)) for point in found}) == len(found)


def test_a_value_outside_its_domain_is_the_points_own():
    found, *_ = composed_alone("agent.discount=.9,1.5,.8")
    assert [point.refused for point in found] == [
        "",
        "agent.discount=1.5: expected a number in [0, 1]",
        "",
    ]
    assert [point.config and point.config.agent.discount for point in found] == [
        0.9,
        None,
        0.8,
    ]


def composed_alone(*argv):
    """The points of a sweep, where Hydra's own would be refused."""
    compose.store_schemas()
    request = compose.read(["-m", *argv])
    with compose.composer(request) as hydras:
        master = hydras(request.flags.overrides, True)
        loader = GlobalHydra.instance().config_loader()
        sources = sweep_points.Sources(loader, master)
        jobs = sweep_points.split(sources, request.flags.overrides)
        return (list(sweep_points.compose_all(sources, jobs)),)
