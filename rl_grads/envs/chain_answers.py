"""Markov decision processes as tables, and their exact answers in float64.

Everything here is a pure function of a `MarkovChain` and imports no JAX. Notation of
Sutton & Barto, "Reinforcement Learning" (2nd ed.), chapters 9 and 11: features
`x(s)`, weights `w`, state distribution `mu`, behaviour policy `b`, target policy
`pi`, importance ratio `rho = pi / b`.
"""

from typing import NamedTuple

import numpy as np

from rl_grads.typing import PyTree

_UNSOLVED = np.zeros(0)


class MarkovChain(NamedTuple):
    """A finite Markov decision process with two policies, features and answers.

    S states, A actions, d features. The answers are empty until `solve` fills them.
    A chain is compared by identity, so that a record that holds one can be hashed.

    Attributes:
        transition: `[S, A, S]` probability of the next state.
        reward: `[S, A, S]` reward of a transition.
        start: `[S]` distribution of the first state of an episode.
        terminal: `[S]` bool. Entering such a state ends the episode; its features and
            its value are zero. Without any, the chain is continuing.
        discount: The discount that goes with the chain in its source.
        behaviour: `[S, A]` policy that acts.
        target: `[S, A]` policy whose values are asked for.
        features: `[S, d]` observation of each state.
        values: `[S]` true values of the target policy.
        distribution: `[S]` where the behaviour policy is: expected visits per episode,
            normalised (Sutton & Barto 9.2), or the stationary distribution.
        td_fixed_point: `[d]` weights with a zero expected TD(0) update.
        mc_fixed_point: `[d]` weights of least root-mean-square value error.
    """

    transition: np.ndarray
    reward: np.ndarray
    start: np.ndarray
    terminal: np.ndarray
    discount: float
    behaviour: np.ndarray
    target: np.ndarray
    features: np.ndarray
    values: np.ndarray = _UNSOLVED
    distribution: np.ndarray = _UNSOLVED
    td_fixed_point: np.ndarray = _UNSOLVED
    mc_fixed_point: np.ndarray = _UNSOLVED

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


class KeyMatrices(NamedTuple):
    """Expectations under the behaviour policy; the expected TD update is `b - A w`.

    Attributes:
        A: `[d, d]`, `E[rho x_tm1 (x_tm1 - discount x_t)^T]`.
        b: `[d]`, `E[rho r_t x_tm1]`.
        C: `[d, d]`, `E[x_tm1 x_tm1^T]`.
    """

    A: np.ndarray
    b: np.ndarray
    C: np.ndarray


def solve(chain: MarkovChain) -> MarkovChain:
    """The same chain with its answers, its arrays made read-only.

    Raises:
        ValueError: The tables do not describe a Markov decision process, or the target
            policy takes an action that the behaviour policy never takes.

    Example:
        >>> from rl_grads.envs.chain_definitions import random_walk
        >>> solve(random_walk()).values.round(3)
        array([0.   , 0.167, 0.333, 0.5  , 0.667, 0.833, 0.   ])
    """
    check(chain)
    chain = chain._replace(
        values=true_values(chain), distribution=state_distribution(chain)
    )
    chain = chain._replace(
        td_fixed_point=td_fixed_point(chain), mc_fixed_point=mc_fixed_point(chain)
    )
    return MarkovChain(*map(_read_only, chain))


def check(chain: MarkovChain) -> None:
    """Refuse tables that do not describe a Markov decision process."""
    for name in ("transition", "start", "behaviour", "target"):
        table = getattr(chain, name)
        if (table < 0).any() or not np.allclose(table.sum(-1), 1):
            raise ValueError(
                f"{name}: expected probabilities that sum to 1 in each row"
            )
    live = ~chain.terminal
    if (chain.target[live] > 0)[chain.behaviour[live] <= 0].any():
        raise ValueError("behaviour: expected to take every action that target takes")
    if chain.features[chain.terminal].any():
        raise ValueError("features: expected zeros in terminal states")
    if chain.start[chain.terminal].any():
        raise ValueError("start: expected no probability on terminal states")


# ------------------------------------------------------------------ states and values


def expected_visits(chain: MarkovChain) -> np.ndarray:
    """Expected visits to each state `[S]` in one episode under the behaviour policy.

    Their sum is the mean length of an episode. `n = start + P_b^T n`.

    Raises:
        ValueError: The chain is continuing.
    """
    if not chain.terminal.any():
        raise ValueError("expected_visits: expected a chain with a terminal state")
    live = ~chain.terminal
    inside = _policy_transition(chain, chain.behaviour)[np.ix_(live, live)]
    visits = np.zeros(len(live))
    visits[live] = np.linalg.solve(np.eye(live.sum()) - inside.T, chain.start[live])
    return visits


def state_distribution(chain: MarkovChain) -> np.ndarray:
    """How often the behaviour policy is in each state `[S]`; it sums to one."""
    if chain.terminal.any():
        visits = expected_visits(chain)
        return visits / visits.sum()
    size = len(chain.terminal)
    flow = _policy_transition(chain, chain.behaviour).T - np.eye(size)
    system = np.vstack([flow, np.ones(size)])
    return np.linalg.lstsq(system, np.append(np.zeros(size), 1.0), rcond=None)[0]


def true_values(chain: MarkovChain, discount: float | None = None) -> np.ndarray:
    """Values `[S]` of the target policy: `v = r_pi + discount P_pi v`.

    Args:
        chain: Its answers are not used.
        discount: None for the chain's own.
    """
    live = ~chain.terminal
    inside = _policy_transition(chain, chain.target)[np.ix_(live, live)]
    system = np.eye(live.sum()) - _discount(chain, discount) * inside
    values = np.zeros(len(live))
    values[live] = np.linalg.solve(system, _policy_reward(chain)[live])
    return values


class Model(NamedTuple):
    """`transition[S, S]` and expected `reward[S]` of a policy; zero once ended."""

    transition: np.ndarray
    reward: np.ndarray


def target_model(chain: MarkovChain) -> Model:
    """The chain under its target policy: `v = reward + discount * transition @ v`."""
    live = ~chain.terminal
    transition = _policy_transition(chain, chain.target) * live[:, None] * live
    return Model(transition, _policy_reward(chain) * live)


# ----------------------------------------------------- linear function approximation


def td_matrices(chain: MarkovChain, discount: float | None = None) -> KeyMatrices:
    """The matrices of linear TD(0) (Sutton & Barto 9.11; off-policy 11.3).

    States are weighted by where the behaviour policy is and actions by the importance
    ratio, which turns them into those of the target policy.

    Args:
        chain: A solved chain; its distribution is used.
        discount: None for the chain's own.

    Example:
        >>> from rl_grads.envs.chain_definitions import two_state
        >>> td_matrices(solve(two_state())).A.round(6)
        array([[-0.2]])
    """
    x, mu = chain.features, chain.distribution
    x_next = _policy_transition(chain, chain.target) @ x
    weighted = (mu[:, None] * x).T
    return KeyMatrices(
        A=weighted @ (x - _discount(chain, discount) * x_next),
        b=weighted @ _policy_reward(chain),
        C=weighted @ x,
    )


def td_fixed_point(chain: MarkovChain, discount: float | None = None) -> np.ndarray:
    """Weights `[d]` with `A w = b`; the shortest of them where A is singular."""
    matrices = td_matrices(chain, discount)
    return np.linalg.lstsq(matrices.A, matrices.b, rcond=None)[0]


def mc_fixed_point(chain: MarkovChain, discount: float | None = None) -> np.ndarray:
    """Weights `[d]` of least `rmsve`, the shortest if there are several."""
    scale = np.sqrt(chain.distribution)
    values = true_values(chain, discount)
    scaled = scale[:, None] * chain.features
    return np.linalg.lstsq(scaled, scale * values, rcond=None)[0]


def root_value_error(
    chain: MarkovChain, values: np.ndarray, discount: float | None = None
) -> float:
    """`sqrt(sum_s mu(s) (values(s) - v(s))^2)` for estimated values `[S]`."""
    error = values - true_values(chain, discount)
    return float(np.sqrt(chain.distribution @ error**2))


def rmsve(chain: MarkovChain, w: np.ndarray, discount: float | None = None) -> float:
    """Root value error of the weights `w` `[d]` (Sutton & Barto 9.1, its root)."""
    return root_value_error(chain, chain.features @ w, discount)


def rmspbe(chain: MarkovChain, w: np.ndarray, discount: float | None = None) -> float:
    """Root projected Bellman error of `w` `[d]` (Sutton & Barto 11.27, its root).

    `sqrt(g^T C^+ g)` with the expected TD update `g = b - A w`.
    """
    matrices = td_matrices(chain, discount)
    update = matrices.b - matrices.A @ w
    return float(np.sqrt(update @ np.linalg.pinv(matrices.C, hermitian=True) @ update))


# ---------------------------------------------------------------------------- details


def _policy_transition(chain: MarkovChain, policy: np.ndarray) -> np.ndarray:
    """State to state `[S, S]` under a policy."""
    return np.einsum("sa,sat->st", policy, chain.transition)


def _policy_reward(chain: MarkovChain) -> np.ndarray:
    """Expected next reward `[S]` under the target policy."""
    return np.einsum("sa,sat,sat->s", chain.target, chain.transition, chain.reward)


def _discount(chain: MarkovChain, discount: float | None) -> float:
    return chain.discount if discount is None else discount


def _read_only(value: PyTree) -> PyTree:
    """A view that cannot be written to; numbers pass."""
    if isinstance(value, np.ndarray):
        value = value.view()
        value.setflags(write=False)
    return value
