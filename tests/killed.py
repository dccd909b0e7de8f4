"""Work in a child process that is killed before a chosen change to the disk, and what is left."""

import itertools
import os
import signal
import sys

import pytest
import torch

CHANGES = ("write", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod")


def forks(test):
    """Mark a test that forks, whatever threads there are: it needs a system that can."""
    test = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")(test)
    return pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")(test)


def in_child(work):
    """Run work in a forked child; its process id."""
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)  # a forked process has not the threads of its parent
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)
    return child


def was_killed(child):
    """Wait for a child: whether it was killed, False if it ended well; a failure is an error."""
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0, "the child failed"
    return os.WIFSIGNALED(status)


def killed_before(number, work, kinds=CHANGES):
    """Whether work in a child came to its number-th change of these kinds; it was killed there."""
    def work_until_then():
        changes = itertools.count(1)

        def kill(event, arguments):
            if event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]:
                event = "write"
            if event in kinds and next(changes) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(kill)
        work()

    return was_killed(in_child(work_until_then))


def names(folder):
    return sorted(path.name for path in folder.iterdir())
