"""What works apart stays behind the worker that began it, and behind others as the worker does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from headrace.streams.child_process import NICE

AUTOGROUP = Path("/proc/self/autogroup")
#: Says the niceness of its process, and that of its session.
TELLS = """
from headrace.streams.child_process import end_with_parent
import os
os.nice(NICE - os.nice(0))
end_with_parent()
print(os.nice(0))
print(open("/proc/self/autogroup").read())
"""


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this system does not share its cores out by session")
@pytest.mark.parametrize("of_worker", [0, 5])
def test_its_session_is_as_nice_as_its_worker_and_itself_is_nicer(of_worker: int) -> None:
    code = TELLS.replace("NICE", str(of_worker))
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        own, session = process.stdout.read().split("\n", 1)
    assert int(own) == of_worker + NICE
    assert session.split()[-1] == str(of_worker)
