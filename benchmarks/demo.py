"""`make demo` from a clean clone, timed after installation, and its promotion put to the test.

Bars: it ends well in under six minutes on two cores, with at least one promotion that a fresh
`autolab replay` with new seeds confirms.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Print the result; exit code 1 if a bar is missed."""
    with tempfile.TemporaryDirectory(prefix="autolab-demo-") as directory:
        clone = Path(directory) / "autolab"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        subprocess.run(["make", "--quiet", "setup"], cwd=clone, check=True)
        begin = time.perf_counter()
        subprocess.run(["make", "--quiet", "demo"], cwd=clone, check=True)
        minutes = (time.perf_counter() - begin) / 60
        autolab = str(clone / ".venv" / "bin" / "autolab")
        status = json.loads(subprocess.check_output([autolab, "status", "--json"], cwd=clone))
        replayed = subprocess.run(
            [autolab, "replay", "master", "--seeds", "2"], cwd=clone, capture_output=True, text=True
        )
        print(replayed.stdout.strip())
        picture = next(iter((clone / "results").glob("*/staircase.png")), None)
        promotions = status["master"]["promotions"]
        met = minutes < 6 and promotions >= 1 and replayed.returncode == 0 and picture is not None
        print(
            f"demo: {minutes:.1f} min, {promotions} promotions: {'met' if met else 'MISSED'} (bar 6 min, 1 confirmed)"
        )
    return not met


if __name__ == "__main__":
    sys.exit(main())
