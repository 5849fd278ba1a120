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

B = 7
NETWORKS = {
    "mlp": (MLP((9, 8)), (5,)),
    "normalised": (MLP((9, 8), "tanh", layer_norm=True), (5,)),
    "linear": (Linear(0.1), (5,)),
    "convolution": (Convolution(4, (9,)), (6, 6, 2)),
}
LOSSES = register.names("loss")


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


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("online", [False, True])
def test_td_losses(name, network, online):
    section, shape = NETWORKS[network]
    config = configs.canonical(Config(network=section))
    net = networks.make(config, 1 if name == "td" else 3)
    transitions = batch(shape)
    loss = register.get("loss", name)(net)
    params = net.init(jax.random.key(0), transitions.s_tm1[0])
    bootstrap = params if online else jax.tree.map(lambda a: a + 0.1, params)
    axes = (None, None, 0, None)

    @jax.jit
    def program(params, bootstrap):
        given = (params, bootstrap, transitions, config)
        each, signals = jax.vmap(jax.grad(loss, has_aux=True), axes)(*given)
        norms, own = pe.per_example_norms(loss, axes, has_aux=True)(*given)
        together = pe.gradient_with_norms(loss, axes, has_aux=True)
        (total, _), _ = together(params, None, *given[1:])
        return each, signals, norms, own, total

    each, signals, norms, own, total = program(params, bootstrap)
    rows = [np.asarray(g, np.float64).reshape(B, -1) for g in jax.tree.leaves(each)]
    lengths = np.linalg.norm(np.concatenate(rows, 1), axis=1)
    np.testing.assert_allclose(norms, lengths, rtol=1e-5)
    np.testing.assert_allclose(own.td_error, signals.td_error, rtol=1e-6)
    for got, want in zip(jax.tree.leaves(total), rows, strict=True):
        want = want.sum(0)
        np.testing.assert_allclose(
            np.ravel(got), want, rtol=1e-5, atol=1e-5 * abs(want).max()
        )
    given = (params, params, transitions, config)
    found = pe.explain(loss, *given, in_axes=axes, has_aux=True)
    slow = [e for e in found if e.way == "materialised" and len(e.shape) > 1]
    assert slow == []
