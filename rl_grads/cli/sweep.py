"""`rl-grads sweep plan ...`: a sweep as commands that any engine can run."""

import sys
from collections.abc import Sequence

from rl_grads.cli import train

_USAGE = """\
usage: rl-grads sweep plan run.id=NAME KEY=VALUE,VALUE ...

Lay the sweep out below sweeps/NAME and print a command for each of its populations,
a line each. Every line can be run anywhere that sees this folder, any number of times:
what is done is not done again, a population in which a process works is left alone.

  rl-grads sweep plan run.id=rates optimizer.learning_rate=1e-4,1e-3 > jobs
  parallel -j 2 < jobs                                  # GNU parallel
  sbatch --array=1-$(wc -l < jobs) --wrap 'sed -n ${SLURM_ARRAY_TASK_ID}p jobs | sh'
"""


def main(argv: Sequence[str]) -> int:
    """Print the commands of a sweep.

    Args:
        argv: Arguments after `rl-grads sweep`.

    Returns:
        The exit status: 2 for bad input, with one message.
    """
    word, *rest = argv or ["--help"]
    if word in ("-h", "--help") or {"-h", "--help"} & set(rest):
        print(_USAGE, end="")
        return 0
    if word != "plan":
        print(f"rl-grads sweep {word}: expected plan", file=sys.stderr)
        return 2
    if not any(argument.startswith("run.id=") for argument in rest):
        told = "rl-grads sweep plan: run.id: expected run.id=NAME, which every job has"
        print(told, file=sys.stderr)
        return 2
    multirun = [] if {"-m", "--multirun"} & set(rest) else ["-m"]
    resumed = [a for a in rest if not a.startswith("resume=")]
    return train.main([*multirun, *resumed, "resume=auto"], planned=True)
