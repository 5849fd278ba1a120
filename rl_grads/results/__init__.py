"""Many runs afterwards: read, listed, compared. Knows files and no engine; no JAX.

import rl_grads as rg

runs = rg.results.load("sweeps/cartpole/2026-11-22_05-30-00")
runs.frame()    # every logged row, beside the keys in which the points differ
runs.finals()   # one row per point and seed
"""

from rl_grads.results.points import Point
from rl_grads.results.references import REFERENCES, Reference
from rl_grads.results.runs import Runs, load

__all__ = ["REFERENCES", "Point", "Reference", "Runs", "load"]
