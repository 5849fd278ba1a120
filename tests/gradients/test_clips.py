"""The clip inside the graph, at each place where a config can put it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_grads import register
from rl_grads.agents import networks
from rl_grads.agents.agent import clipped_loss
from rl_grads.agents.networks import NetworkRecord as Network
from rl_grads.agents.schema import MLP, Convolution, Linear, QLearning
from rl_grads.config import ConfigError, canonical, replace
from rl_grads.gradients.clips import check_site, clipped_network
from rl_grads.gradients.estimators import About, mean_gradient
from rl_grads.gradients.schema import Gradient, GraphClip
from rl_grads.td import Transition, losses
from rl_grads.training.schema import Config

LINEAR = Network(lambda key, obs: None, lambda params, obs: params @ obs)
SITES = ["output", "torso", "every_layer"]


def batch(rewards, obs=None):
    """One-step episodes: the TD error is the reward less the value."""
    count = len(rewards)
    obs = jnp.ones((count, 1)) if obs is None else obs
    flags, zeros = jnp.ones(count, bool), jnp.zeros(count)
    actions, r_t = jnp.zeros(count, int), jnp.asarray(rewards)
    return Transition(obs, actions, r_t, obs, flags, ~flags, zeros, zeros + 1)


def gradient(network, params, examples, clip):
    config = Config(agent=QLearning(), gradient=Gradient(clip=clip))
    loss = clipped_loss(losses.q_learning, network)

    @jax.jit
    def estimate(params):
        about = About(loss, params, params, examples, None, config)
        return mean_gradient().update((), jax.random.key(0), about)[0]

    return estimate(params)


@pytest.mark.parametrize("clip", [GraphClip(max_abs=1.0), GraphClip(max_norm=1.0)])
def test_each_example_is_clipped_before_the_mean(clip):
    # TD errors 0.5, 4 and -8 give slopes -0.5, -1 and 1: their mean is -1/6.
    params = jnp.zeros((2, 1))
    slopes = gradient(LINEAR, params, batch([0.5, 4.0, -8.0]), clip)
    np.testing.assert_allclose(slopes, [[-1 / 6], [0.0]], rtol=1e-6)


def test_without_a_limit_the_network_itself_comes_back():
    assert clipped_network(LINEAR, GraphClip()) is LINEAR
    slopes = gradient(LINEAR, jnp.zeros((2, 1)), batch([0.5, 4.0, -8.0]), GraphClip())
    np.testing.assert_allclose(slopes, [[3.5 / 3], [0.0]], rtol=1e-6)


# ---------------------------------------------------- places, against backward by hand

MLP_CONFIG = MLP(hidden=(5, 4), activation="tanh")


def cut(signal, clip):
    """The clip of one example's signal, in numpy."""
    if clip.max_abs is not None:
        signal = np.clip(signal, -clip.max_abs, clip.max_abs)
    if clip.max_norm is not None:
        signal = signal * min(1.0, clip.max_norm / np.linalg.norm(signal))
    return signal


def backward(layers, obs, reward, clip):
    """Gradients of an MLP of tanh units for one example, layer by layer."""
    inputs = [obs]
    for kernel, bias in layers[:-1]:
        inputs.append(np.tanh(inputs[-1] @ kernel + bias))
    out = inputs[-1] @ layers[-1][0] + layers[-1][1]
    signal = np.array([out[0] - reward, 0.0])  # Action 0 of two.
    gradients = []
    for depth in range(len(layers) - 1, -1, -1):
        place = {len(layers) - 1: "output", len(layers) - 2: "torso"}.get(depth)
        if clip.site in (place, "every_layer"):
            signal = cut(signal, clip)
        if depth < len(layers) - 1:  # Behind the clip: the unit's own slope.
            signal = signal * (1 - inputs[depth + 1] ** 2)
        gradients.append((np.outer(inputs[depth], signal), signal))
        signal = layers[depth][0] @ signal
    return gradients[::-1]


def flat(gradients):
    return [np.asarray(leaf) for pair in gradients for leaf in pair]


@pytest.mark.slow
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("limit", [{"max_abs": 0.3}, {"max_norm": 0.4}])
def test_every_site_of_an_mlp_by_hand(site, limit):
    clip = GraphClip(site=site, **limit)
    network = networks.make(Config(network=MLP_CONFIG), 2)
    obs = jax.random.normal(jax.random.key(1), (6, 3))
    rewards = [0.1, -3.0, 5.0, 0.5, -0.2, 9.0]
    params = network.init(jax.random.key(0), obs[0])
    names = [f"Dense_{i}" for i in range(3)]

    def layers(tree):
        return [(tree["params"][n]["kernel"], tree["params"][n]["bias"]) for n in names]

    known = jax.tree.map(np.asarray, layers(params))
    each = [
        backward(known, np.asarray(o), r, clip)
        for o, r in zip(obs, rewards, strict=True)
    ]
    expected = [np.mean(leaves, 0) for leaves in zip(*map(flat, each), strict=True)]
    found = gradient(network, params, batch(rewards, obs), clip)
    for leaf, wanted in zip(flat(layers(found)), expected, strict=True):
        np.testing.assert_allclose(leaf, wanted, rtol=1e-5, atol=1e-7)


def test_the_sites_differ_and_the_head_escapes_the_torso_clip():
    network = networks.make(Config(network=MLP_CONFIG), 2)
    obs = jnp.ones((1, 3))
    params = network.init(jax.random.key(0), obs[0])
    clips = [GraphClip(), *(GraphClip(max_norm=0.01, site=site) for site in SITES)]
    found = [gradient(network, params, batch([5.0], obs), clip) for clip in clips]
    head = [f["params"]["Dense_2"]["bias"][0].item() for f in found]
    first = [float(jnp.linalg.norm(f["params"]["Dense_0"]["kernel"])) for f in found]
    assert head[0] == head[2] != pytest.approx(-0.01)
    assert head[1] == head[3] == pytest.approx(-0.01)
    assert first[0] > 10 * first[2]
    assert 0 < first[1] != first[2] > 0


@pytest.mark.parametrize(
    ("hidden", "sites"),
    [((4, 4), ("convolution", "layer_0", "torso")), ((), ("torso",))],
)
def test_a_convolution_is_a_layer(hidden, sites):
    section = Convolution(channels=2, hidden=hidden, activation="tanh")
    network = networks.make(Config(network=section), 2)
    assert network.sites == sites
    obs = jax.random.normal(jax.random.key(1), (4, 4, 1))
    params = network.init(jax.random.key(0), obs)
    bias = lambda made: jax.grad(lambda p: made.apply(p, obs)[0])(params)  # noqa: E731
    clipped = clipped_network(network, GraphClip(max_abs=1e-4, site="every_layer"))
    plain, small = (
        jnp.abs(jax.jit(bias, static_argnums=0)(made)["params"]["Conv_0"]["bias"]).max()
        for made in (network, clipped)
    )
    # The bias acts at four positions, with signals of at most 1e-4 each.
    assert 0 < small <= 4e-4 < plain
    assert clipped.apply(params, obs).tolist() == network.apply(params, obs).tolist()


def test_thresholds_at_every_layer_can_be_learned():
    network = networks.make(Config(network=MLP_CONFIG), 2)
    obs = jnp.ones((2, 3))
    params = network.init(jax.random.key(0), obs[0])

    def size(limit):
        clip = GraphClip(max_abs=limit, site="every_layer")
        found = gradient(network, params, batch([5.0, 3.0], obs), clip)
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(found))

    value, slope = jax.value_and_grad(size)(0.1)
    assert value > 0 and slope > 0


# --------------------------------------------------------------------- foreign networks


class Foreign(nn.Module):
    """A user's module that knows nothing of places."""

    @nn.compact
    def __call__(self, x):
        hidden = nn.relu(nn.Dense(3)(x))
        return nn.Dense(2)(hidden)


class Announcing(nn.Module):
    """A user's module that announces one."""

    sites = ("torso",)

    @nn.compact
    def __call__(self, x, at_site=lambda name, x: x):
        hidden = at_site("torso", nn.relu(nn.Dense(3)(x)))
        return nn.Dense(2)(hidden)


def test_any_network_can_be_clipped_at_its_output():
    params = Foreign().init(jax.random.key(0), jnp.ones(1))
    clip = GraphClip(max_norm=1e-3)
    found = gradient(Foreign(), params, batch([5.0]), clip)
    np.testing.assert_allclose(
        found["params"]["Dense_1"]["bias"], [-1e-3, 0.0], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("network", "site", "places"),
    [
        (Foreign(), "torso", "'output'"),
        (Foreign(), "every_layer", "'output'"),
        (LINEAR, "every_layer", "'output'"),
        (
            Network(LINEAR.init, LINEAR.apply, ("body",)),
            "torso",
            "'output' or 'every_layer'",
        ),
    ],
)
def test_a_place_that_is_not_announced_is_refused(network, site, places):
    with pytest.raises(ConfigError) as caught:
        clipped_network(network, GraphClip(max_norm=1.0, site=site))
    assert str(caught.value) == (
        f"gradient.clip.site={site!r}: expected {places}; the network announces "
        "no such place (`sites` and `at_site`)"
    )


def test_a_foreign_network_may_announce_places():
    params = Announcing().init(jax.random.key(0), jnp.ones(1))
    plain = gradient(Announcing(), params, batch([5.0]), GraphClip())
    clip = GraphClip(max_abs=0.0, site="torso")
    found = gradient(Announcing(), params, batch([5.0]), clip)
    assert found["params"]["Dense_1"]["bias"].tolist() == (
        plain["params"]["Dense_1"]["bias"].tolist()
    )
    assert not jnp.any(found["params"]["Dense_0"]["kernel"])
    assert jnp.any(plain["params"]["Dense_0"]["kernel"])


@pytest.mark.parametrize("section", [Linear(), MLP(hidden=())])
def test_a_network_of_one_layer_has_no_torso(section):
    config = Config(network=section, gradient=Gradient(clip=GraphClip(site="torso")))
    with pytest.raises(ConfigError, match=r"^gradient\.clip\.site='torso': expected"):
        networks.make(config, 2)
    with pytest.raises(ConfigError, match=r"^gradient\.clip\.site='torso': expected"):
        register.get("agent", "q_learning")(config, 2)


@pytest.mark.parametrize("site", SITES)
def test_places_that_exist_pass(site):
    for section in (MLP(), Convolution()):
        check_site(networks.make(Config(network=section), 2), GraphClip(site=site))


def test_an_unknown_site():
    with pytest.raises(
        ConfigError, match=r"gradient\.clip\.site='head': expected one of"
    ):
        canonical(replace(Config(), {"gradient.clip.site": "head"}))
