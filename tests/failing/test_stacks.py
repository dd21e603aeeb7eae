"""Stacks as faulthandler writes them, of real processes: where the training thread is, and who waits for whom."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raymix.failing.stacks import place, stuck

# two threads beside the main one; the one that trains is in work_off, and stands at WAY
PROGRAM = """
import faulthandler, re, signal, sys, threading, time
faulthandler.register(signal.SIGUSR1, file=open(sys.argv[1], "w"), all_threads=True)
def stand():
    print("up", flush=True)
    WAY
def work_off():
    stand()
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
threading.Thread(target=work_off, daemon=True).start()
time.sleep(60)
"""
WAYS = {
    "deadlock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "interpreter held": "re.match('(a+)+$', 64 * 'a' + 'b')",
    "read": "sys.stdin.buffer.raw.read(1)",
}


@pytest.mark.parametrize("way", WAYS)
def test_where_a_process_stands(way: str, tmp_path: Path) -> None:
    stacks, pipe = tmp_path / "stacks", subprocess.PIPE
    command = [sys.executable, "-c", PROGRAM.replace("WAY", WAYS[way]), str(stacks)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGUSR1)
        until = time.monotonic() + 10
        while not stacks.read_text().endswith("in <module>\n") and time.monotonic() < until:
            time.sleep(0.02)
        process.kill()
    found = place(stacks.read_text())
    assert found is not None
    assert not found.together
    assert found.words.startswith("re/__init__.py:" if way == "interpreter held" else "<string>:6 in stand")


FRAMES = '  File "/lib/python3.11/threading.py", line 982 in run\n'
WORK = '  File "/x/raymix/on_ray/worker.py", line 150 in work_off\n'
AVERAGING = f'Thread 0x1 (most recent call first):\n  File "/lib/torch/autograd/graph.py", line 8 in _engine\n{WORK}'
GATHERING = f'Thread 0x1 (most recent call first):\n  File "/lib/torch/distributed/c10d.py", line 3 in wait\n{WORK}'
ALONE = (
    'Thread 0x1 (most recent call first):\n  File "/lib/torch/nn/modules/module.py", line 1 in _call\n'
    f'  File "/home/me/net.py", line 39 in forward\n{WORK}'
)


def with_others(thread: str) -> str:
    return f"Thread 0x2 (most recent call first):\n{FRAMES}\n{thread}\n\nThread 0x3 (most recent call first):\n{FRAMES}"


def test_who_does_not_wait_is_stuck() -> None:
    assert place(with_others(ALONE)) == ("me/net.py:39 in forward", False)
    assert stuck({0: with_others(AVERAGING), 1: with_others(ALONE), 2: with_others(GATHERING)}) == (1,)
    assert stuck({0: with_others(AVERAGING), 1: with_others(GATHERING)}) == (0, 1)
    assert stuck({0: "", 1: with_others(AVERAGING)}) == (0, 1)


@pytest.mark.parametrize("text", ["", "no stacks came\n", with_others("")])
def test_without_stacks_there_is_no_place(text: str) -> None:
    assert place(text) is None
