"""CPU milliseconds that OpenEvolve's controller spends on one submission, with so many programs in its database.

Run by benchmarks/scale.py in the peers' own environment (peers/requirements.txt).
"""
# mypy: ignore-errors

from __future__ import annotations

import logging
import pickle
import random
import statistics
import sys
import time
import uuid
from types import SimpleNamespace


def main() -> None:
    """Sample a parent, snapshot the database for a worker, and pickle it: what happens for every submission."""
    logging.disable(logging.CRITICAL)
    from openevolve.config import DatabaseConfig
    from openevolve.database import Program, ProgramDatabase
    from openevolve.process_parallel import ProcessParallelController

    size, rng = int(sys.argv[1]), random.Random(0)
    # Bins and population large enough that no program is dropped; by default the population ends at 1,000.
    database = ProgramDatabase(
        DatabaseConfig(
            population_size=10**9,
            archive_size=100,
            num_islands=5,
            feature_dimensions=["f1", "f2"],
            feature_bins=200,
        )
    )
    for number in range(size):
        code = "PARAMS = [" + ", ".join(f"{rng.random():.8f}" for _ in range(8)) + "]\n" + "#" * 500
        metrics = {"combined_score": rng.random(), "f1": rng.random(), "f2": rng.random()}
        database.add(Program(id=str(uuid.uuid4()), code=code, metrics=metrics), target_island=number % 5)
    controller = SimpleNamespace(database=database)
    costs = []
    for turn in range(10 if size <= 1000 else 3):
        begin = time.process_time()
        database.sample_from_island(turn % 5, num_inspirations=2)
        pickle.dumps(ProcessParallelController._create_database_snapshot(controller))
        costs.append(1000 * (time.process_time() - begin))
    print(statistics.median(costs))


if __name__ == "__main__":
    main()
