"""Ending all that a process has started, whoever else has died meanwhile."""

import subprocess
import sys

import pytest

from cluster import processes

SCRIPT = """
import subprocess
from cluster import processes
processes.adopt_orphans()
orphan = subprocess.run(["sh", "-c", "sleep 600 >&2 & echo $!"], stdout=subprocess.PIPE, text=True).stdout
processes.kill_below()
print(orphan)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="orphans go to process 1")
def test_what_a_dead_child_has_started_ends_too() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True, check=True)
    orphan = processes.find(int(done.stdout))
    assert orphan is None or not processes.runs(orphan)
