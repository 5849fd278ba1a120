"""The page that `rl-grads train --help` prints."""

import textwrap

from rl_grads.cli import compose

_TEXT = """\
usage: rl-grads train [KEY=VALUE ...] [--plugin MODULE] [-m] [--cfg job]

Train a population of agents: `seeds` members of one config in one compiled program.
Every key of the config is an argument; `rl-grads keys` lists them all. Files go to
runs/EXPERIMENT/TIME/: metrics.jsonl, summary.json, .hydra/.

examples:
  rl-grads train                                      the main job
  rl-grads train env=gymnasium/FrozenLake-v1 seeds=3  another environment
  rl-grads train agent=sarsa agent.discount=0.9 replay=null
  rl-grads train -m optimizer.learning_rate=3e-4,1e-3 seeds=5   a sweep
  rl-grads train resume=runs/train/2026-01-31_12-00-00          continue a run

choices (KEY=NAME):
{choices}

options:
  --plugin MODULE   import your module first: what it registers is a choice as well
  --table full      all metrics in the table at the end
  --config-dir DIR  add a folder of your own configs, such as DIR/experiment/mine.yaml
  -m, --multirun    sweep: a=1,2 b=3,4 trains all four; files go to sweeps/
  --cfg job         print the config instead of training
  --hydra-help      more options, those of Hydra (https://hydra.cc)
  -h, --help        this page

rl-grads dashboard shows the curves. Documentation: README.md, docs/config.md"""


def text() -> str:
    """The page, with the choices known now."""
    groups = (*compose.GROUPS, "experiment")
    return _TEXT.format(choices="\n".join(map(_choices, groups)))


def _choices(group: str) -> str:
    """A group and its choices, on as many lines as they take."""
    return textwrap.fill(
        ", ".join(compose.choices(group)),
        width=88,
        initial_indent=f"  {group:<12}",
        subsequent_indent=" " * 14,
    )
