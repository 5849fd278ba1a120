"""The cache of compiled programs: a second start of the same job compiles nothing."""

import json
import os
import subprocess
import sys

import pytest

from rl_grads.training import compilation

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


@pytest.mark.parametrize("value", [None, "", "caches", "./caches"])
def test_a_cache_home_that_is_no_absolute_path_is_not_the_working_directory(
    monkeypatch, tmp_path, value
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", value or "")
    if value is None:
        monkeypatch.delenv("XDG_CACHE_HOME")
    assert compilation.cache_home() == tmp_path / ".cache"


def test_the_cache_home_of_the_user(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/caches")
    assert str(compilation.cache_home()) == "/somewhere/caches"


@pytest.mark.slow
def test_a_second_start_reads_every_program_from_the_cache(tmp_path):
    first_misses, _ = start(tmp_path, "gymnax/CartPole-v1")
    misses, hits = start(tmp_path, "gymnax/CartPole-v1")
    assert first_misses > 10
    assert misses == 0
    assert hits > 10
