"""One OpenEvolve run against the model server, in the peers' own environment. Prints RESULT {json}.

Run by benchmarks/scale.py in the peers' own environment (peers/requirements.txt).
"""
# mypy: ignore-errors

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import time
from pathlib import Path


def main() -> None:
    """Its defaults, but for what both systems are given."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", type=Path)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--iterations", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "x")
    from openevolve import OpenEvolve
    from openevolve.config import Config

    out = options.task / "out"
    shutil.rmtree(out, ignore_errors=True)
    config = Config.from_dict(
        {
            "max_iterations": options.iterations,
            "checkpoint_interval": 10**9,
            "log_level": "WARNING",
            "random_seed": 42,
            "max_code_length": 100_000,
            "llm": {
                "api_base": f"http://127.0.0.1:{options.port}/v1",
                "api_key": "x",
                "models": [{"name": "mutator", "weight": 1.0}],
            },
            "evaluator": {
                "parallel_evaluations": options.workers,
                "cascade_evaluation": False,
                "timeout": 60,
            },
        }
    )
    made = OpenEvolve(
        str(options.task / "initial.py"), str(options.task / "evaluator.py"), config, output_dir=str(out)
    )
    logging.getLogger().setLevel(logging.WARNING)
    begin = time.time()
    asyncio.run(made.run(iterations=options.iterations))
    seconds = time.time() - begin
    programs = made.database.programs.values()
    found = {
        "trials": options.iterations,
        "seconds": seconds,
        "programs": len(programs),
        "ends": sorted(program.timestamp for program in programs if program.parent_id),
    }
    print("RESULT " + json.dumps(found))


if __name__ == "__main__":
    main()
