"""The cache of compiled programs: a second start of the same job compiles nothing."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import collections, json, sys
import jax
events = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: events.update([event]))
import rl_grads as rg
from rl_grads.training import backend
config = rg.replace(rg.Config(), {
    "training.total_steps": 40, "training.warmup_steps": 20, "network.hidden": (4,),
    "evaluation.episodes": 2, "env.id": sys.argv[1], "seeds": 2,
})
backend.start(config)
result = rg.train(members=rg.population(config))
jax.clear_caches()
rg.train(members=rg.population(config))  # Again, in one process.
prefix = "/jax/compilation_cache/cache_"
print(json.dumps([events[prefix + "misses"], events[prefix + "hits"]]))
"""


def start(home, env):
    """Cache misses and hits of a process that trains twice."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, env],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_second_start_reads_every_program_from_the_cache(tmp_path):
    first_misses, _ = start(tmp_path, "gymnax/CartPole-v1")
    misses, hits = start(tmp_path, "gymnax/CartPole-v1")
    assert first_misses > 10
    assert misses == 0
    assert hits > 10
