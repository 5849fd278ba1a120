"""Where results go: files always, W&B and Trackio as mirrors, and a progress bar.

Importing this room imports neither numpy, rich nor a tracker.
"""

from rl_grads.tracking.files import MetricsFile, make_rows, read_rows, write_json
from rl_grads.tracking.run import Run
from rl_grads.tracking.tracker import Tracker, Trackers, open_trackers

__all__ = [
    "MetricsFile",
    "Run",
    "Tracker",
    "Trackers",
    "make_rows",
    "open_trackers",
    "read_rows",
    "write_json",
]
