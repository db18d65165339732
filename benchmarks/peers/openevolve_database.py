"""OpenEvolve's own program database behind a pipe, driven as its process_parallel.py drives it.

Islands in turn, `sample_from_island`, the child to the island that was sampled, then generation count and migration.
All settings are its defaults, with the two measures as feature dimensions. Runs in the peers' environment, one JSON
line in, one out:

  {"new": seed}                                 a new database
  {"ask": null}                                 the number of a parent
  {"tell": [number, score, measures, parent]}   a program, in the order in which they were asked for
"""

from __future__ import annotations

import collections
import json
import logging
import sys
import uuid
from typing import Any

from openevolve.config import DatabaseConfig
from openevolve.database import Program, ProgramDatabase


class Driver:
    """One run's database."""

    def __init__(self, seed: int) -> None:
        config = DatabaseConfig(feature_dimensions=["f0", "f1"], random_seed=seed)
        self.islands = config.num_islands
        self.database = ProgramDatabase(config)
        self.numbers: dict[str, int] = {}
        self.turn = 0
        self.asked: collections.deque[tuple[str, int]] = collections.deque()

    def ask(self) -> int:
        """The number of a parent."""
        island = self.turn % self.islands
        self.turn += 1
        parent, _ = self.database.sample_from_island(island, num_inspirations=2)
        self.asked.append((parent.id, island))
        return self.numbers[parent.id]

    def tell(self, number: int, score: float, measures: list[float]) -> None:
        """A program was evaluated."""
        parent, island = self.asked.popleft() if self.asked else (None, 0)
        name = str(uuid.uuid4())
        self.numbers[name] = number
        metrics = {"combined_score": score, "f0": measures[0], "f1": measures[1]}
        program = Program(id=name, code="p" + name, parent_id=parent, metrics=metrics)
        self.database.add(program, target_island=island)
        if parent is None:
            return
        self.database.increment_island_generation(island_idx=island)
        if self.database.should_migrate():
            self.database.migrate_programs()
            for copy in self.database.programs.values():  # migrants are copies with names of their own
                self.numbers.setdefault(copy.id, self.numbers[copy.code[1:]])


def main() -> None:
    """Answer until the pipe is closed."""
    logging.disable(logging.CRITICAL)
    driver: Any = None
    for line in sys.stdin:
        order = json.loads(line)
        answer = None
        if "new" in order:
            driver = Driver(order["new"])
        elif "ask" in order:
            answer = driver.ask()
        else:
            driver.tell(*order["tell"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
