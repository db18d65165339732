"""Measure one program: train it under a budget, collect its artifact, let the evaluator score it.

    python runner.py BUNDLE_DIR [--lifeline] [--cpus 0,1] [--gpu 0]

In: BUNDLE_DIR/spec.json, workspace/ and pristine/. Out: BUNDLE_DIR/measurement.json, complete or not there
at all, and log.txt. Exit code 0: the result is there (whatever its status). 3: told to stop, no result.
With --lifeline the standard input is a pipe from the lab: when it closes, everything ends.

Standard library only, nothing from autolab: it runs the same way on this machine, in a cloud job and on a
cluster, and needs the files in bundle.RUNNER_FILES beside it. This one is the command line; go on with
measurement.py.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as in typing, whose import would take longer than all of these
if TYPE_CHECKING or __package__:
    from .measurement import measure
    from .outcome import Stopped
    from .phase import Signals
else:
    # Started as a script: the files beside this one are a package, whatever their folder is called.
    _package = type(sys)("execution")
    _package.__path__ = [os.path.dirname(os.path.abspath(__file__))]
    sys.modules["execution"] = _package
    from execution.measurement import measure
    from execution.outcome import Stopped
    from execution.phase import Signals

STOPPED = 3  # exit code


def main(argv: list[str]) -> int:
    """Command line; see the top of this file."""
    root, cpus, gpu, lifeline = "", None, None, False
    words = iter(argv)
    try:
        for word in words:
            if word == "--lifeline":
                lifeline = True
            elif word == "--cpus":
                cpus = [int(cpu) for cpu in next(words).split(",")]
            elif word == "--gpu":
                gpu = next(words)
            elif word.startswith("-") or root:
                raise ValueError
            else:
                root = word
        if not os.path.isdir(root):
            raise ValueError
    except (ValueError, StopIteration):
        print("usage: runner.py BUNDLE_DIR [--lifeline] [--cpus 0,1] [--gpu 0]", file=sys.stderr)
        return 2
    os.umask(0o022)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # whatever the parent forgot to close
    signals = Signals(lifeline)
    try:
        measure(root, signals, cpus, gpu)
    except Stopped:
        return STOPPED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
