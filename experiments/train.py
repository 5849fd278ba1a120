"""`python -m experiments.train ...` is `rl-grads train ...`."""

import sys

from rl_grads.cli.train import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
