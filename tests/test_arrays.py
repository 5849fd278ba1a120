"""Arrays in the signatures of public functions are checked while tests run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from rl_grads.td import directions, errors, traces

Q = jnp.ones(3)


@pytest.mark.parametrize(
    "q_t",
    [jnp.ones(2), jnp.ones((1, 3)), jnp.ones(3, bool)],
    ids=["size", "axes", "dtype"],
)
def test_a_wrong_array_is_found(q_t):
    with pytest.raises(TypeCheckError, match=r"errors\.q_learning_error"):
        errors.q_learning_error(Q, 0, 1.0, 0.5, q_t)


def test_a_batch_is_no_single_transition():
    with pytest.raises(TypeCheckError, match="parameter 'v_tm1'"):
        errors.td_error(Q, 1.0, 0.5, Q)


def test_under_a_transform_a_shape_is_that_of_one_example():
    assert jax.jit(jax.vmap(errors.td_error))(Q, Q, Q, Q).tolist() == [1.0] * 3
    with pytest.raises(TypeCheckError):
        jax.vmap(errors.td_error)(*[Q[:, None]] * 4)


@pytest.mark.parametrize("number", [1, 1.0, np.float32(1), np.ones(()), jnp.ones(())])
def test_a_number_is_of_python_of_numpy_or_of_jax(number):
    assert float(errors.td_error(number, 1.0, 0.5, 2.0)) == 1.0


def test_elementwise_functions_take_what_broadcasts():
    assert directions.secondary_error(Q, 0.5, 2.0).tolist() == [1.5] * 3
    with pytest.raises(TypeCheckError):
        directions.secondary_error(Q, jnp.ones(2), 2.0)


@pytest.mark.usefixtures("unchecked")
def test_without_the_check_a_function_says_itself_what_is_wrong():
    with pytest.raises(ValueError, match="expected one shape"):
        traces.lambda_returns(Q, Q, jnp.ones(2), 0.5)
