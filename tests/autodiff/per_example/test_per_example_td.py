"""The TD losses of every agent, with the networks of the configs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads import config as configs
from rl_grads import register
from rl_grads.agents import networks
from rl_grads.agents.schema import MLP, Convolution, Linear
from rl_grads.autodiff import per_example as pe
from rl_grads.td.transition import Transition
from rl_grads.training.schema import Config

pytestmark = pytest.mark.slow

B = 7
NETWORKS = {
    "mlp": (MLP((9, 8)), (5,)),
    "normalised": (MLP((9, 8), "tanh", layer_norm=True), (5,)),
    "linear": (Linear(0.1), (5,)),
    "convolution": (Convolution(4, (9,)), (6, 6, 2)),
}
LOSSES = ("td", "q_learning", "double_q_learning", "sarsa", "expected_sarsa")


def batch(shape):
    rng = np.random.default_rng(0)

    def real(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    terminated = jnp.arange(B) == 2
    return Transition(
        s_tm1=real(B, *shape),
        a_tm1=jnp.asarray(rng.integers(0, 3, B)),
        r_t=real(B),
        s_t=real(B, *shape),
        terminated=terminated,
        truncated=jnp.arange(B) == 4,
        discount_t=0.9 * (1.0 - terminated),
        rho=jnp.abs(real(B)),
        a_t=jnp.asarray(rng.integers(0, 3, B)),
    )


@pytest.mark.parametrize("network", NETWORKS)
def test_td_losses(network, quick):
    section, shape = NETWORKS[network]
    config = configs.canonical(Config(network=section))
    transitions = batch(shape)
    nets = {n: networks.make(config, 1 if n == "td" else 3) for n in LOSSES}
    losses = {n: register.get("loss", n)(net) for n, net in nets.items()}

    def one(loss, params, bootstrap):
        given = (params, bootstrap, transitions, config)
        together = pe.gradient_with_norms(loss, AXES, has_aux=True)
        (total, _), _ = together(params, None, *given[1:])
        return (
            jax.vmap(jax.grad(loss, has_aux=True), AXES)(*given),
            pe.per_example_norms(loss, AXES, has_aux=True)(*given),
            total,
        )

    @quick
    def program(params, others):
        """Every loss with the online and with another network as bootstrap."""
        return [
            one(loss, params[name], bootstrap[name])
            for name, loss in losses.items()
            for bootstrap in (params, others)
        ]

    @jax.jit
    def init(key):
        obs = transitions.s_tm1[0]
        return {name: net.init(key, obs) for name, net in nets.items()}

    params, others = init(jax.random.key(0)), init(jax.random.key(1))
    for (each, signals), norms, total in program(params, others):
        check(each, norms, total)
        np.testing.assert_allclose(norms[1].td_error, signals.td_error, rtol=1e-6)
    for name, loss in losses.items():
        given = (params[name], params[name], transitions, config)
        found = pe.explain(loss, *given, in_axes=AXES, has_aux=True)
        slow = [e for e in found if e.way == "materialised" and len(e.shape) > 1]
        assert slow == []


AXES = (None, None, 0, None)


def check(each, norms, total):
    rows = [np.asarray(g, np.float64).reshape(B, -1) for g in jax.tree.leaves(each)]
    lengths = np.linalg.norm(np.concatenate(rows, 1), axis=1)
    np.testing.assert_allclose(norms[0], lengths, rtol=1e-5)
    for got, want in zip(jax.tree.leaves(total), rows, strict=True):
        scale = abs(want.sum(0)).max()
        np.testing.assert_allclose(
            np.ravel(got), want.sum(0), rtol=1e-5, atol=1e-5 * scale
        )
