"""A run's log, `train.log`: what the terminal said is there as well."""

import logging


def write(text: str) -> None:
    """Put lines into the log files that are open, and not on the terminal.

    Hydra opens one for each run (`hydra.job_logging`), and so does a resumed run.

    Args:
        text: One line or several.
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            for line in text.splitlines():
                handler.handle(_record(line))


def _record(line: str) -> logging.LogRecord:
    return logging.LogRecord("rl_grads", logging.INFO, "", 0, "%s", (line,), None)
