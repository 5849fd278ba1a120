"""A folder is one living process's at a time, and a dead one's for nobody."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from rl_grads.tracking import lease
from rl_grads.tracking.lease import Held, Lease, holder


def document(directory):
    return json.loads((directory / "lease.json").read_text())


def test_it_is_held_until_it_is_released(tmp_path):
    assert holder(tmp_path) is None
    with Lease(tmp_path):
        assert holder(tmp_path) == f"process {os.getpid()} on this machine"
        with pytest.raises(Held, match=f"process {os.getpid()} on this machine"):
            Lease(tmp_path)
    assert holder(tmp_path) is None
    assert not (tmp_path / "lease.json").exists()


def test_the_counter_is_raised(tmp_path):
    with Lease(tmp_path, seconds=0.01):
        deadline = time.monotonic() + 10
        while document(tmp_path)["counter"] < 3:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def test_a_killed_process_holds_nothing(tmp_path):
    code = (
        "import pathlib, time; from rl_grads.tracking.lease import Lease;"
        f"held = Lease(pathlib.Path({str(tmp_path)!r})); print(flush=True);"
        "time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"\n"
    assert holder(tmp_path) == f"process {process.pid} on this machine"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert holder(tmp_path) is None
    with Lease(tmp_path):
        assert document(tmp_path)["pid"] == os.getpid()


def test_another_process_with_the_same_number_is_another(tmp_path):
    foreign = lease._own()._replace(began="1")._asdict() | {"counter": 0}
    (tmp_path / "lease.json").write_text(json.dumps(foreign))
    assert holder(tmp_path) is None


def elsewhere(counter):
    return lease._own()._replace(machine="x", host="far", pid=7)._asdict() | {
        "counter": counter
    }


def test_a_lease_of_another_machine_is_watched(tmp_path):
    path = tmp_path / "lease.json"
    path.write_text(json.dumps(elsewhere(0)))
    began = time.monotonic()
    assert holder(tmp_path, seconds=0.1) is None  # Nobody raises its counter.
    assert 0.25 <= time.monotonic() - began < 5
    raise_it = threading.Timer(0.05, path.write_text, (json.dumps(elsewhere(1)),))
    raise_it.start()
    assert holder(tmp_path, seconds=0.4) == "process 7 on far"
    raise_it.join()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", '{"pid": 1}', '{"pid": -1}', "\udce9"]
)
def test_what_is_no_lease_is_held_by_nobody(tmp_path, text):
    (tmp_path / "lease.json").write_bytes(text.encode(errors="surrogateescape"))
    assert holder(tmp_path) is None
    with Lease(tmp_path):
        assert document(tmp_path)["pid"] == os.getpid()


def test_one_of_many_that_want_it_at_once_gets_it(tmp_path):
    (tmp_path / "lease.json").write_text(
        json.dumps(lease._own()._replace(began="1")._asdict() | {"counter": 0})
    )
    code = (
        "import pathlib, sys\n"
        "from rl_grads.tracking.lease import Held, Lease\n"
        "sys.stdin.readline()\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "try: held = Lease(folder); print('got', flush=True)\n"
        "except Held: print('held', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.stdout.readline().strip() for process in processes]
    assert sorted(said) == ["got"] + ["held"] * 5
    for process in processes:
        process.communicate("\n")
