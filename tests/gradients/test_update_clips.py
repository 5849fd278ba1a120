"""Clips of the update beyond optax, and those of optax, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads import register
from rl_grads.gradients import optimizers, update_clips
from rl_grads.gradients.schema import SGD, Gradient, UpdateClip
from rl_grads.training.schema import Config

LAYERS = {
    "one": {"kernel": jnp.array([[3.0], [0.0]]), "bias": jnp.array([4.0])},  # Norm 5.
    "two": {"kernel": jnp.array([[0.5]])},
}


def clipped(clip: UpdateClip, gradient, params=None):
    """What the optimizer gets, with all numbers of the config traced."""

    @jax.jit
    def step(config):
        made = optimizers.make(config)
        given = gradient if params is None else params
        return made.update(gradient, made.init(given), given)[0]

    config = Config(optimizer=SGD(learning_rate=1.0), gradient=Gradient(update=clip))
    return jax.tree.map(
        lambda x: np.round(-np.asarray(x, float), 5).tolist(), step(config)
    )


def test_per_layer_by_hand():
    found = clipped(UpdateClip("per_layer", max_norm=1.0), LAYERS)
    assert found["one"] == {"kernel": [[0.6], [0.0]], "bias": [0.8]}
    assert found["two"] == {"kernel": [[0.5]]}


def test_a_tree_that_is_one_array_is_one_layer():
    assert clipped(UpdateClip("per_layer", max_norm=1.0), jnp.array([3.0, 4.0])) == [
        0.6,
        0.8,
    ]


def test_block_rms_by_hand():
    # Root mean squares 3 / sqrt(2), 4 and 0.5.
    found = clipped(UpdateClip("block_rms", max_rms=2.0), LAYERS)
    assert found["one"]["bias"] == [2.0]
    np.testing.assert_allclose(found["one"]["kernel"], [[2 * 2**0.5], [0]], rtol=1e-5)
    assert found["two"] == {"kernel": [[0.5]]}


def test_agc_by_hand():
    params = {"w": jnp.array([[3.0, 0.0], [4.0, 0.0]]), "b": jnp.array([0.0, 10.0])}
    gradient = {"w": jnp.array([[0.0, 6.0], [1.0, 8.0]]), "b": jnp.array([3.0, 4.0])}
    clip = UpdateClip("agc", max_ratio=0.1, eps=0.5)
    # Units are columns, of norm 5 and at least 0.5: limits 0.5 and 0.05. The bias is
    # one unit of norm 10: limit 1, for a norm of 5.
    found = clipped(clip, gradient, params)
    np.testing.assert_allclose(found["w"], [[0.0, 0.03], [0.5, 0.04]], atol=1e-6)
    np.testing.assert_allclose(found["b"], [0.6, 0.8], atol=1e-6)


def run(percentile, norms):
    """The norms after AutoClip, for gradients `norm * [0.6, 0.8]`."""
    clip = update_clips.auto_clip(percentile)

    def step(state, norm):
        out, state = clip.update({"w": norm * jnp.array([0.6, 0.8])}, state)
        return state, jnp.linalg.norm(out["w"])

    return jax.lax.scan(step, clip.init({}), jnp.asarray(norms))[1]


def test_autoclip_follows_the_percentile_of_all_norms_so_far():
    norms = np.exp(np.random.default_rng(1).normal(size=3000))
    found = jax.jit(run)(10.0, norms)
    so_far = [np.percentile(norms[: i + 1], 10.0) for i in range(len(norms))]
    expected = np.minimum(norms, so_far)
    # One cell is 4.4 %; with many numbers the percentile is known far better.
    np.testing.assert_allclose(found[100:], expected[100:], rtol=0.05)
    np.testing.assert_allclose(found[1000:], expected[1000:], rtol=0.025)


def test_autoclip_clips_an_outlier_and_nothing_at_100():
    norms = [*np.linspace(1.0, 2.0, 100), 1000.0]
    assert 1.45 < float(run(50.0, norms)[-1]) < 1.55
    np.testing.assert_allclose(run(100.0, norms), norms, rtol=1e-5)


def test_autoclip_survives_gradients_of_zero_and_nan():
    clip = update_clips.auto_clip(90.0)
    out, state = clip.update(jnp.zeros(2), clip.init(jnp.zeros(2)))
    assert out.tolist() == [0.0, 0.0]
    nan, state = clip.update(jnp.array([jnp.nan, 1.0]), state)
    assert bool(jnp.all(jnp.isnan(nan)))
    again, _ = clip.update(jnp.array([1e-12, 0.0]), state)
    assert float(again[0]) > 0.0


def test_an_outer_derivative_sees_the_percentile():
    norms = jnp.linspace(1.0, 2.0, 400)

    def last(percentile):
        return run(percentile, jnp.append(norms, 10.0))[-1]

    # The quantile of the uniform distribution on [1, 2] rises by 1 % per percent.
    np.testing.assert_allclose(jax.jit(jax.grad(last))(30.0), 0.01, rtol=0.1)


@pytest.mark.parametrize("name", ["per_layer", "autoclip"])
def test_a_zero_gradient_has_finite_outer_derivatives(name):
    clip = register.get("clip", name)(Config(gradient=Gradient(UpdateClip(name))))

    def total(scale):
        gradient = {"dead": {"w": scale * jnp.zeros(2)}, "alive": {"w": scale * 30.0}}
        return jax.tree.reduce(
            jnp.add, clip.update(gradient, clip.init(gradient))[0]
        ).sum()

    assert bool(jnp.isfinite(jax.grad(total)(1.0)))


def test_every_clip_is_a_name():
    names = register.names("clip")
    assert names[:6] == (
        "global_norm",
        "element",
        "block_rms",
        "per_layer",
        "agc",
        "autoclip",
    )
