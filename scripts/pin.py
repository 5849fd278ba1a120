"""Write constraints.txt: one pin for every package that the project can install.

Each interpreter resolves the project with all its extras; where they disagree, the
pin carries a marker. Run it to move to the newest versions:

    python scripts/pin.py python3.11 python3.12 python3.13
"""

import json
import re
import subprocess
import sys
import tempfile
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = "dev,cuda12,cuda13,tpu"
HEADER = """\
# Pinned versions of everything that the project installs, on every supported Python.
# Made by: python scripts/pin.py {}"""

Minor = tuple[int, int]
Pins = dict[str, str]


def resolve(interpreter: str) -> tuple[Minor, Pins]:
    """The interpreter's version, and each package's newest version that fits it."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        subprocess.run([interpreter, "-m", "venv", folder], check=True)
        command = [f"{folder}/bin/pip", "install", "--dry-run", "--quiet"]
        command += ["--report", str(report), f"{ROOT}[{EXTRAS}]"]
        subprocess.run(command, check=True)
        return read_report(json.loads(report.read_text()))


def read_report(report: dict) -> tuple[Minor, Pins]:
    """What pip would install, but for the project itself."""
    packages = [item["metadata"] for item in report["install"]]
    major, minor = report["environment"]["python_version"].split(".")
    pins = {normal(p["name"]): p["version"] for p in packages}
    pins.pop("rl-grads", None)
    return (int(major), int(minor)), pins


def normal(name: str) -> str:
    """A package's name in the one form that indexes use."""
    return re.sub(r"[-_.]+", "-", name).lower()


def merge(resolved: dict[Minor, Pins]) -> list[str]:
    """The lines of constraints.txt.

    Example:
        >>> merge({(3, 11): {"jax": "1"}, (3, 12): {"jax": "2"}})
        ['jax==1 ; python_version < "3.12"', 'jax==2 ; python_version >= "3.12"']
    """
    names = sorted(set().union(*resolved.values()))
    return [line for name in names for line in _lines(name, resolved)]


def _lines(name: str, resolved: dict[Minor, Pins]) -> list[str]:
    """One line for each run of Pythons that agree on the version."""
    having = [(v, pins[name]) for v, pins in sorted(resolved.items()) if name in pins]
    runs = [(ver, [v for v, _ in run]) for ver, run in groupby(having, lambda x: x[1])]
    starts = [minors[0] for _, minors in runs] + [None]
    lines = []
    for i, (version, _) in enumerate(runs):
        low = starts[i] if i else None
        lines.append(f"{name}=={version}{_marker(low, starts[i + 1])}")
    return lines


def _marker(low: Minor | None, end: Minor | None) -> str:
    """The environment marker of the Pythons from `low` up to, not including, `end`."""
    bounds = [(">=", low), ("<", end)]
    parts = [f'python_version {sign} "{b[0]}.{b[1]}"' for sign, b in bounds if b]
    return f" ; {' and '.join(parts)}" if parts else ""


def main(interpreters: list[str]) -> None:
    """Resolve with every interpreter and write the file."""
    resolved = dict(resolve(interpreter) for interpreter in interpreters)
    pythons = " ".join(f"python{major}.{minor}" for major, minor in sorted(resolved))
    lines = [HEADER.format(pythons), *merge(resolved), ""]
    (ROOT / "constraints.txt").write_text("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:] or ["python3"])
