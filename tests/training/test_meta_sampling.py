"""Learning what acts through sampling: `meta.sampling`."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rl_grads as rg
from rl_grads.agents.networks import NetworkRecord as Network
from rl_grads.agents.schema import BehaviourPolicy, Linear, Prediction, QLearning
from rl_grads.config import ConfigError
from rl_grads.gradients.schema import SGD, Adam
from rl_grads.meta.inner import Batch
from rl_grads.meta.schema import Meta
from rl_grads.replay import buffer, memory
from rl_grads.replay.schema import Importance, Replay
from rl_grads.td.transition import Signals, Transition
from rl_grads.training.checks.door import check
from rl_grads.training.engine import Given
from rl_grads.training.meta_sampling import weigher

pytestmark = pytest.mark.slow

EXPONENT = "replay.exponent"
EPSILON = "agent.behaviour_policy.epsilon"
SETTINGS = {
    "training.num_envs": 2,
    "training.total_steps": 400,
    "training.batch_size": 8,
    "training.warmup_steps": 40,
    "training.updates_per_iteration": 4,
    "evaluation.interval": None,
    "tracking.interval": 100,
    "tracking.progress": False,
    "tracking.trackio": False,
    "tracking.runs": "none",
}
PRIORITISED = Replay(
    capacity=100,
    priority="td_error",
    exponent=0.6,
    importance=Importance(0.4, normalise="mean"),
)


def walk(changes=None, **meta):
    """Prediction on the five-state walk with priorities; the outer optimizer is SGD."""
    config = rg.Config(
        agent=Prediction(discount=0.9),
        network=Linear(),
        optimizer=SGD(learning_rate=0.1),
        replay=PRIORITISED,
        meta=Meta(**{"optimizer": SGD(learning_rate=0.0)} | meta),
    )
    given = SETTINGS | {"env.id": "chain/random_walk"} | (changes or {})
    return rg.replace(config, given)


def control(changes=None, **meta):
    """Q-learning on the same walk, which it can leave on the good side."""
    config = rg.Config(
        agent=QLearning(behaviour_policy=BehaviourPolicy(epsilon=0.3)),
        network=Linear(),
        optimizer=SGD(learning_rate=0.1),
        replay=Replay(capacity=100),
        meta=Meta(**{"optimizer": SGD(learning_rate=0.0)} | meta),
    )
    given = SETTINGS | {"env.id": "chain/random_walk"} | (changes or {})
    return rg.replace(config, given)


def train(config, seeds=(0, 1)):
    return rg.train(members=rg.population(config, seeds))


# ------------------------------------------------------- exact, through several updates

LENGTHS = np.array([1.0, 0.5, 2.0])  # One feature in each of three transitions.
SCORES = np.array([0.5, 1.0, 4.0])
K, B, START = 2, 2, 0.3


def three(draws):
    """Transitions of a one-feature problem by their numbers."""
    draws = jnp.asarray(draws)
    lengths, zeros = jnp.array(LENGTHS), jnp.zeros(draws.shape)
    return Transition(
        s_tm1=lengths[draws][..., None],
        a_tm1=zeros.astype(int),
        r_t=jnp.array([1.0, -1.0, 0.5])[draws],
        s_t=lengths[(draws + 1) % 3][..., None],
        terminated=draws == 2,
        truncated=zeros > 0,
        discount_t=zeros,
        rho=jnp.ones(draws.shape),
    )


@pytest.mark.parametrize("keeps", ["scores", "ranks"])
def test_through_two_updates_it_is_the_derivative_of_the_mean(keeps):
    """Summed over all 81 draws; outer loss, TD and SGD are linear, so it is exact.

    But for the factor 1 - 1/B of a batch that is its own normaliser.
    """
    base = SCORES if keeps == "scores" else 1 / np.array([3.0, 2.0, 1.0])
    draws = np.array(list(itertools.product(range(3), repeat=K * B))).reshape(-1, K, B)
    config = walk()
    config.replay = Replay(exponent=0.6, importance=Importance(0.4, normalise="none"))

    def chances(exponent):
        return base**exponent / np.sum(base**exponent)

    def means(exponent, weigh, learn):
        """The mean outer loss over all draws, and the mean meta-gradient."""
        agent = rg.agents.prediction(network=linear_network())
        state = agent.init(jax.random.key(0), jnp.ones(1), config)
        compute = rg.meta.gradient(
            agent.update,
            lambda params, data: 3.0 * params[0],
            (learn,),
            K,
            weigh=weigh and weigher(agent, ("soft_weights",)),
        )
        ratio = jnp.array(3 * chances(exponent))[draws]

        def one(batch, ratio):
            weights = ratio**-0.4
            return compute(config, state, batch, None, weights=weights, ratio=ratio)

        found = jax.jit(jax.vmap(one))(three(draws), ratio)
        weight = chances(exponent)[draws].prod((1, 2))
        return weight @ np.asarray(found.loss), weight @ np.asarray(
            found.gradient[learn]
        )

    h = 1e-5
    with jax.enable_x64(True):
        plus, minus = (means(0.6 + s, None, "agent.discount")[0] for s in (h, -h))
        value, slope = means(0.6, True, EXPONENT)
        plain, _ = means(0.6, None, "agent.discount")
    assert value == pytest.approx(plain, rel=1e-14)
    assert slope == pytest.approx((1 - 1 / B) * (plus - minus) / (2 * h), rel=1e-7)
    assert abs(slope) > 1e-3


def linear_network():
    return Network(
        init=lambda key, obs: jnp.full(1, START),
        apply=lambda params, obs: params * obs,
    )


# ------------------------------------------------------------------- out of a memory


def test_batches_of_a_memory_know_how_often_they_are_drawn():
    """The mean over stratified draws, against the exact derivative."""
    size = buffer.sizes(5, num_envs=1, num_steps=1, time_limit=None)
    config = walk({"training.batch_size": 16, "replay.importance.normalise": "none"})
    obs = jnp.zeros((1, 1))
    kept = memory.create(size, obs, jnp.float32, config)
    add = jax.jit(memory.add, static_argnums=1)
    for time in range(5):
        one = jnp.zeros((1, 1))
        new = buffer.Experience(
            s_tm1=one[None],
            a_tm1=one.astype(jnp.int32),
            r_t=one + time,
            s_t=one[None],
            terminated=one > 0,
            truncated=one > 0,
            rho=one + 1,
        )
        kept = add(kept, size, jnp.int32(time), new, obs, config)
    scores = jnp.array([0.3, 1.0, 2.0, 0.1, 5.0])
    slots = jnp.arange(5)
    kept = memory.prioritise(kept, slots, Signals(scores), config)
    agent = rg.agents.prediction(network=linear_network())
    weigh = weigher(agent, ("soft_weights",))
    assert weigh is not None

    def mean(exponent, key):
        drawn = memory.sample(kept, size, jnp.int32(5), key, config)
        changed = rg.replace(config, {EXPONENT: exponent})
        batch = Batch(drawn.experience, drawn.weights, drawn.ratio)
        weights = weigh(None, batch, changed)
        assert weights is not None
        return jnp.mean(weights * jnp.square(drawn.experience.r_t))

    keys = jax.random.split(jax.random.key(0), 2000)
    each = jax.jit(jax.vmap(jax.value_and_grad(mean), (None, 0)))
    values, found = each(0.6, keys)

    def exact(exponent):
        p = (np.asarray(scores) + 1e-6) ** exponent
        p /= p.sum()
        return np.sum(p * (5 * p) ** -0.4 * np.arange(5.0) ** 2)

    expected = (exact(0.6 + 1e-5) - exact(0.6 - 1e-5)) / 2e-5
    np.testing.assert_allclose(values.mean(), exact(0.6), rtol=0.02)
    error = float(found.std()) / 2000**0.5
    # A stratified batch is a better normaliser than an independent one.
    low, high = (1 - 1 / 16) * expected, expected
    assert low - 4 * error < float(found.mean()) < high + 4 * error
    assert error < 0.02 * expected


# ------------------------------------------------------------------------ training


SAME = [
    pytest.param(walk, {}, {"learn": (EXPONENT,)}, id="proportional"),
    pytest.param(walk, {"replay.priority": "rank"}, {"learn": (EXPONENT,)}, id="rank"),
    pytest.param(
        walk,
        {"replay.importance.normalise": "max"},
        {"learn": (EXPONENT, "replay.importance.exponent")},
        id="importance",
    ),
    pytest.param(
        walk,
        {"replay.priority": "large_batch"},
        {"learn": (EXPONENT,), "steps": 2},
        id="large batch",
    ),
    pytest.param(control, {}, {"learn": (EPSILON,), "steps": 2}, id="replayed actions"),
    pytest.param(
        control,
        {"replay": None, "training.updates_per_iteration": 1},
        {"learn": (EPSILON,)},
        id="online",
    ),
    pytest.param(
        control,
        {"replay": PRIORITISED, "agent.loss": "sarsa"},
        {"learn": (EXPONENT, EPSILON), "estimator": "forward"},
        id="both",
    ),
]


@pytest.mark.parametrize(("make", "changes", "meta"), SAME)
def test_training_is_the_same(make, changes, meta):
    """With an outer step size of zero nothing but the metrics differs."""
    forms = ("soft_weights",)
    if make is control:
        forms = ("soft_weights", "behaviour_matching")
    plain = train(make(changes))
    found = train(make(changes, sampling=forms, **meta))
    for a, b in zip(plain.params, found.params, strict=True):
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b
        )
    assert np.all(found.metrics["meta/gradient_norm"][:, 1:] > 0)
    assert not np.any(found.metrics["meta/skipped"])
    for name in ("loss/td_error_abs", "training/return"):
        np.testing.assert_allclose(
            found.metrics[name], plain.metrics[name], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("estimator", ["full", "first_order", "truncated", "forward"])
def test_an_exponent_is_learned(estimator):
    config = walk(
        {"training.total_steps": 600},
        learn=(EXPONENT,),
        sampling=("soft_weights",),
        estimator=estimator,
        steps=2,
        optimizer=Adam(learning_rate=0.02),
    )
    found = train(config)
    values = found.metrics[f"learned/{EXPONENT}"]
    assert np.all(np.isfinite(values)) and np.all(values > 0)
    assert np.all(np.abs(values[:, -1] - 0.6) > 1e-3)
    assert not np.any(found.metrics["meta/skipped"])


@pytest.mark.parametrize(
    "changes", [{}, {"replay": None, "training.updates_per_iteration": 1}]
)
def test_exploration_is_learned(changes):
    config = control(
        changes,
        learn=(EPSILON,),
        sampling=("behaviour_matching",),
        optimizer=Adam(learning_rate=0.02),
    )
    found = train(config)
    values = found.metrics[f"learned/{EPSILON}"]
    assert np.all((values > 0) & (values < 1))
    assert np.all(np.abs(values[:, -1] - 0.3) > 1e-3)
    assert not np.any(found.metrics["meta/skipped"])


# ------------------------------------------------------------------------- the door

SOFT, MATCHING = ("soft_weights",), ("behaviour_matching",)
FULL = {"replay.importance.exponent": 1.0}


@pytest.mark.parametrize(
    ("make", "changes", "meta", "message"),
    [
        (walk, {}, {"learn": (EXPONENT,)}, "without meta.sampling=[soft_weights]"),
        (
            control,
            {},
            {"learn": (EPSILON,), "sampling": SOFT},
            "without meta.sampling=[behaviour_matching]",
        ),
        (
            walk,
            {"replay.priority": "uniform"},
            {"learn": (EXPONENT,), "sampling": SOFT},
            "its meta-gradient is exactly zero",
        ),
        (
            walk,
            FULL,
            {"learn": (EXPONENT,), "sampling": SOFT},
            "expected replay.importance.exponent below 1; with weights that correct",
        ),
        (
            walk,
            {"training.batch_size": 1},
            {"learn": (EXPONENT,), "sampling": SOFT},
            "expected training.batch_size of at least 2",
        ),
        (
            control,
            {"agent.behaviour_policy.name": "uniform"},
            {"learn": (EPSILON,), "sampling": MATCHING},
            "its meta-gradient is exactly zero",
        ),
        (
            control,
            {EPSILON: 1.0},
            {"learn": (EPSILON,), "sampling": MATCHING},
            "the nearest is 0.999999",
        ),
        (
            walk,
            {EXPONENT: 0.0},
            {"learn": (EXPONENT,), "sampling": SOFT},
            "the nearest is 1e-06",
        ),
        (
            walk,
            {},
            {"learn": ("agent.discount",), "sampling": MATCHING},
            "expected an agent with a behaviour policy of its own",
        ),
        (
            walk,
            {},
            {"learn": (EXPONENT,), "sampling": ("soft_weight",)},
            "did you mean 'soft_weights'?",
        ),
        (
            walk,
            {},
            {
                "learn": (EXPONENT,),
                "sampling": SOFT,
                "estimator": "persistent_evolution",
            },
            "expected one that can learn replay.exponent",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, changes, meta, message):
    config = make(changes, **meta)
    with pytest.raises(ConfigError) as caught:
        check(rg.population(config, (0,))[0].config, Given(None, None))
    assert message in str(caught.value)


def test_weights_that_correct_in_the_end_alone_pass():
    final = {"replay.importance.exponent_final": 1.0}
    check(walk(final, learn=(EXPONENT,), sampling=SOFT), Given(None, None))


def test_nothing_is_weighed_where_nothing_is_asked():
    agent = rg.agents.prediction(network=linear_network())
    assert weigher(agent, None) is None
    weigh = weigher(agent, SOFT)
    assert weigh is not None
    assert weigh(None, Batch(three([0, 1])), walk({"replay": None})) is None
