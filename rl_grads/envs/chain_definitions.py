"""The Markov chains of the TD literature, each with its source and exact answers.

Each function returns an unsolved `MarkovChain`; `rl_grads.envs.chain` makes an
environment of it. States are numbered from the left; terminal states stand at the
ends. Where an action is named, the names are in the order of their numbers.
"""

from collections.abc import Callable, Sequence

import numpy as np

from rl_grads.envs.chain_answers import MarkovChain


def random_walk() -> MarkovChain:
    """Five states, steps of one (Sutton & Barto, Example 6.2).

    Actions left and right, both policies uniform; 1 for leaving on the right, starts
    in the centre, tabular. Values 1/6 .. 5/6; distribution (1, 2, 3, 2, 1) / 9.
    """
    return _walk(num_states=5, reach=1, left_reward=0.0, features=np.eye(5))


def random_walk_19() -> MarkovChain:
    """Nineteen states, -1 on the left and +1 on the right (Sutton & Barto, Ex. 7.1).

    Otherwise as `random_walk`. Values -0.9, -0.8, .. 0.9.
    """
    return _walk(num_states=19, reach=1, left_reward=-1.0, features=np.eye(19))


def thousand_state() -> MarkovChain:
    """A thousand states, jumps of 1 to 100 (Sutton & Barto, Example 9.1).

    Actions left and right, both policies uniform; -1 and +1 at the ends, starts in
    state 500. Ten groups of a hundred states. Mean episode 83.15 steps; root value
    error 0.0544 at the Monte Carlo and 0.1167 at the TD fixed point.
    """
    groups = np.repeat(np.eye(10), 100, axis=0)
    return _walk(num_states=1000, reach=100, left_reward=-1.0, features=groups)


def thousand_state_polynomial() -> MarkovChain:
    """`thousand_state` with the features `(3 z)^i`, i = 0..5, `z = s / 500 - 1`.

    Gradient norms differ by a factor of several hundred between its states: a case for
    importance sampling by gradient norm.
    """
    centred = np.arange(1, 1001) / 500 - 1
    powers = (3 * centred[:, None]) ** np.arange(6)
    return _walk(num_states=1000, reach=100, left_reward=-1.0, features=powers)


def boyan() -> MarkovChain:
    """Boyan's chain (Boyan 2002, "Technical update: least-squares TD learning").

    Thirteen states; row k is his state k, the start is 12 and the end row 13. From
    k >= 2 to k - 1 or k - 2 with reward -3 each, from 1 to 0 with -2, from 0 to the
    end with 0. One action. Four features interpolate between the states 12, 8, 4 and
    0. Values -2k, at the weights (-24, -16, -8, 0).
    """
    states = np.arange(13)
    transition, reward = _tables(14, 1)
    for k in states[2:]:
        transition[k, 0, [k - 1, k - 2]] = 0.5
        reward[k, 0, [k - 1, k - 2]] = -3.0
    transition[1, 0, 0], reward[1, 0, 0] = 1.0, -2.0
    transition[[0, 13], 0, 13] = 1.0
    corners = np.array([12, 8, 4, 0])
    features = np.maximum(0.0, 1 - np.abs(states[:, None] - corners) / 4)
    return MarkovChain(
        transition=transition,
        reward=reward,
        start=_one_hot(12, 14),
        terminal=_one_hot(13, 14) > 0,
        discount=1.0,
        behaviour=np.ones((14, 1)),
        target=np.ones((14, 1)),
        features=np.vstack([features, np.zeros(4)]),
    )


def baird() -> MarkovChain:
    """Baird's counterexample (Sutton & Barto, Figure 11.1; Baird 1995).

    Seven states, eight features, no end, all rewards zero. Action dashed leads to one
    of the six upper states, solid to the seventh. Behaviour: dashed with 6/7, so that
    all states are equally frequent; target: always solid, importance ratios 0 and 7.
    Values zero, at `w = 0`; semi-gradient TD diverges from the usual first weights
    (1, 1, 1, 1, 1, 1, 10, 1). Starts in any state.
    """
    transition, reward = _tables(7, 2)
    transition[:, 0, :6] = 1 / 6
    transition[:, 1, 6] = 1.0
    features = np.zeros((7, 8))
    features[:6, :6] = 2 * np.eye(6)
    features[:6, 7] = 1.0
    features[6, 6:] = (1.0, 2.0)
    return MarkovChain(
        transition=transition,
        reward=reward,
        start=np.full(7, 1 / 7),
        terminal=np.zeros(7, dtype=bool),
        discount=0.99,
        behaviour=np.tile([6 / 7, 1 / 7], (7, 1)),
        target=np.tile([0.0, 1.0], (7, 1)),
        features=features,
    )


def a_split() -> MarkovChain:
    """The A-split (Sutton & Barto, Example 11.2): why naive residuals mislead.

    Rows A, B, C, end. A leads to B or C with equal probability and reward 0, B to the
    end with 1, C to the end with 0. One action, tabular, discount 1. Values (1/2, 1,
    0), which TD finds; the least mean squared TD error, which the naive residual
    gradient finds, is at (1/2, 3/4, 1/4).
    """
    transition, reward = _tables(4, 1)
    transition[0, 0, [1, 2]] = 0.5
    transition[1:, 0, 3] = 1.0
    reward[1, 0, 3] = 1.0
    return MarkovChain(
        transition=transition,
        reward=reward,
        start=_one_hot(0, 4),
        terminal=_one_hot(3, 4) > 0,
        discount=1.0,
        behaviour=np.ones((4, 1)),
        target=np.ones((4, 1)),
        features=np.eye(4, 3),
    )


def two_state() -> MarkovChain:
    """`w -> 2w` (Sutton & Barto 11.1), closed as in Sutton, Mahmood & White (2016).

    Two states with the features 1 and 2, no end, all rewards zero, discount 0.9.
    Action left leads to the first state and right to the second, from both. Behaviour:
    uniform, so both states are equally frequent; target: always right, importance
    ratios 0 and 2. The transition from first to second then multiplies w by
    `1 + 2 step_size (2 discount - 1)`; nothing undoes it, as leaving the second state
    has ratio 0. Key matrix `A = (5 - 6 discount) / 2 = -0.2 < 0`, so that the expected
    TD update diverges from every `w != 0`. Values zero, at `w = 0`.
    """
    transition, reward = _tables(2, 2)
    transition[:, 0, 0] = 1.0
    transition[:, 1, 1] = 1.0
    return MarkovChain(
        transition=transition,
        reward=reward,
        start=np.full(2, 0.5),
        terminal=np.zeros(2, dtype=bool),
        discount=0.9,
        behaviour=np.full((2, 2), 0.5),
        target=np.tile([0.0, 1.0], (2, 1)),
        features=np.array([[1.0], [2.0]]),
    )


def blind_cliffwalk(num_states: int = 10) -> MarkovChain:
    """The Blind Cliffwalk (Schaul et al. 2016, section 3.1): one reward, far away.

    Action right leads one state on and, from the last one, to the end with reward 1;
    wrong ends the episode with 0. Behaviour: uniform, so that a whole walk takes
    `2 ** num_states` tries; target: always right. Tabular, discount `1 - 1/num_states`.
    Values `discount ** (num_states - 1 - s)`.
    """
    end, states = num_states, np.arange(num_states)
    transition, reward = _tables(num_states + 1, 2)
    transition[:, 0, end] = transition[end, 1, end] = 1.0
    transition[states, 1, states + 1] = 1.0
    reward[end - 1, 1, end] = 1.0
    return MarkovChain(
        transition=transition,
        reward=reward,
        start=_one_hot(0, num_states + 1),
        terminal=_one_hot(end, num_states + 1) > 0,
        discount=1 - 1 / num_states,
        behaviour=np.full((num_states + 1, 2), 0.5),
        target=np.tile([0.0, 1.0], (num_states + 1, 1)),
        features=np.eye(num_states + 1, num_states),
    )


_ALL: Sequence[Callable[[], MarkovChain]] = (
    random_walk,
    random_walk_19,
    thousand_state,
    thousand_state_polynomial,
    boyan,
    baird,
    a_split,
    two_state,
    blind_cliffwalk,
)
DEFINITIONS = {definition.__name__: definition for definition in _ALL}


# ---------------------------------------------------------------------------- details


def _walk(
    *, num_states: int, reach: int, left_reward: float, features: np.ndarray
) -> MarkovChain:
    """A walk between two ends with jumps of 1 to `reach`, +1 on the right."""
    end = num_states + 1
    transition, reward = _tables(num_states + 2, 2)
    inner, jumps = np.arange(1, end)[:, None], np.arange(1, reach + 1)
    for action, sign in enumerate((-1, 1)):
        landing = np.clip(inner + sign * jumps, 0, end)
        np.add.at(transition[:, action], (inner, landing), 1 / reach)
    transition[0, :, 0] = transition[end, :, end] = 1.0
    reward[1:end, :, 0], reward[1:end, :, end] = left_reward, 1.0
    uniform = np.full((num_states + 2, 2), 0.5)
    return MarkovChain(
        transition=transition,
        reward=reward,
        start=_one_hot((num_states + 1) // 2, num_states + 2),
        terminal=_one_hot(0, num_states + 2) + _one_hot(end, num_states + 2) > 0,
        discount=1.0,
        behaviour=uniform,
        target=uniform,
        features=np.pad(features, ((1, 1), (0, 0))),
    )


def _tables(num_states: int, num_actions: int) -> tuple[np.ndarray, np.ndarray]:
    """Empty tables of transitions and rewards, `[S, A, S]` both."""
    shape = (num_states, num_actions, num_states)
    return np.zeros(shape), np.zeros(shape)


def _one_hot(index: int, size: int) -> np.ndarray:
    return np.eye(size)[index]
