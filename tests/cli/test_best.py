"""`rl-grads best`: its command composes to the point's config on fresh seeds."""

import json
import math
import shlex

import pytest
import yaml

import rl_grads as rg
from rl_grads.config import replace
from rl_grads.results.best import fresh
from rl_grads.training import recorded
from tests.results.made_runs import write_run


def point(place, rate, returns, *overrides, **more):
    run = write_run(
        place,
        {"evaluation/return": [returns]},
        seeds=range(len(returns)),
        steps=(5,),
        optimizer__learning_rate=rate,
        **more,
    )
    (run / ".hydra").mkdir()
    lines = [f"optimizer.learning_rate={rate}", *overrides]
    (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(lines))
    return run


@pytest.fixture
def sweep(home):
    """Three rates, of which the second is the best."""
    own = ("seed=0", "seeds=3", "run.id=mine", "env.id='gymnax/CartPole-v1'")
    for k, (rate, value) in enumerate([(0.1, 1.0), (0.2, 5.0), (0.3, math.nan)]):
        point(home / "s" / str(k), rate, [value, value + 1, value + 2], *own)
    return home / "s"


def config_of(line):
    """The config that a printed command trains."""
    words = shlex.split(line)
    assert words[:2] == ["rl-grads", "train"]
    experiments = [w for w in words[2:] if w.startswith("experiment=")]
    name = experiments[0].partition("=")[2] if experiments else "train"
    return rg.compose(name, *(w for w in words[2:] if w not in experiments))


def test_the_command_of_the_best_point(sweep, command):
    status, out, err = command("best", "s")
    assert status == 0
    assert out == (
        "rl-grads train optimizer.learning_rate=0.2 "
        "'env.id='\"'\"'gymnax/CartPole-v1'\"'\"'' seed=3 seeds=3\n"
    )
    assert err.splitlines() == [
        "rl-grads best: best of 3: lr=0.2",
        "rl-grads best: evaluation/return 6 (5 to 7), n = 3",
    ]
    config = config_of(out)
    assert (config.seed, config.seeds) == (3, 3)
    assert config.optimizer.learning_rate == 0.2


def test_the_options_of_the_run_are_part_of_it(sweep, command):
    document = {"format": 1, "plugins": ["mine"], "config_dir": "my configs"}
    (sweep / "1" / "run.json").write_text(json.dumps(document))
    start = "rl-grads train --plugin mine --config-dir 'my configs' optimizer."
    assert command("best", "s").out.startswith(start)


def test_runs_with_other_seeds_are_pooled(sweep, command):
    point(sweep / "3", 0.2, [9.0] * 4)
    _, out, err = command("best", "s")
    assert "best of 3: lr=0.2" in err
    assert "evaluation/return 9 (9 to 9), n = 4" in err
    assert shlex.split(out)[-2:] == ["seed=4", "seeds=4"]


def test_of_an_error_the_lowest_is_the_best(home, command):
    for k, value in enumerate((3.0, 2.0)):
        run = point(home / "s" / str(k), 0.1 * (k + 1), [value])
        text = (run / "metrics.jsonl").read_text()
        (run / "metrics.jsonl").write_text(text.replace("evaluation/return", "loss/a"))
    assert "learning_rate=0.2" in command("best", "s").out


@pytest.mark.parametrize(
    ("used", "count", "seed"),
    [([0, 1, 2], 3, 3), ([2**32 - 1], 2, 0), ([0, 5, 2**32 - 1], 4, 1)],
)
def test_fresh_seeds(used, count, seed):
    assert fresh(count, used) == seed


def test_what_has_no_best_is_refused(sweep, command):
    (sweep / "1" / ".hydra" / "overrides.yaml").unlink()
    status, out, err = command("best", "s")
    expected = "expected it, from rl-grads train"
    assert (status, out) == (2, "")
    assert err == f"rl-grads best: s/1/.hydra/overrides.yaml: {expected}\n"
    _, _, err = command("best", "s/2")
    assert (
        err == "rl-grads best: s/2: expected a point with a finite evaluation/return\n"
    )
    for path in sweep.glob("*/metrics.jsonl"):
        path.write_text(path.read_text().replace("evaluation/return", "own"))
    _, _, err = command("best", "s")
    expected = "expected a metric with a good end, such as evaluation/return"
    assert err == f"rl-grads best: --metric=own: {expected}\n"


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compiler")
def test_a_real_sweep(train, command, home):
    rates = "optimizer.learning_rate=0.1,0.5"
    assert train("-m", "experiment=random_walk", rates, "run.id=rates").status == 0
    status, out, err = command("best", "sweeps/rates")
    assert status == 0, err
    found = config_of(out)
    at = {0.1: "0", 0.5: "1"}[found.optimizer.learning_rate]
    before = recorded.read(home / "sweeps" / "rates" / at).config
    same = {"seed": before.seed, "run.id": before.run.id}
    assert (found.seed, found.seeds) == (before.seed + 2, 2)
    assert replace(found, same) == before
