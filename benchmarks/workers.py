"""What an agent costs: start-up, memory and seconds, beside `opencode run` alone, at 1, 8 and 32 at once.

The same work for both: read train.py, edit it, say why, against the same local model server. `opencode run` is one
process for each agent, in a home of its own and without any sandbox. Ours is a seat: server, sandbox, relay and
gateway; `first` starts them, `next` is another session in the same seat, which is what all but the first trial cost.
Bars: one seat, start included, costs at most 10 % more CPU than `opencode run`; 32 finish without a hang.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from aiohttp import ClientSession

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from open_code import seed_plugin_folder
from scripted_agents import set_rate
from stand_ins.model_server import ModelServer

from autolab.harness.models import Model
from autolab.harness.opencode.binary import OpenCode, find_opencode
from autolab.harness.opencode.configuration import configuration
from autolab.harness.opencode.gateway import Endpoint, Gateway
from autolab.harness.opencode.seat import Seat, Waiting
from autolab.harness.upstream import Patience
from autolab.harness.usage import Allowance
from autolab.pack.roles import roles
from autolab.program.workspace import create_workspace

FILES = {"train.py": "import os\nRATE = 0.5\nprint(RATE)\n"}
PROMPT = "Trial 0000-0001. Make it better."
PATIENT = Waiting(wall=900, silent=300)


@dataclass(frozen=True)
class Cost:
    """Of agents at work at the same time: seconds until the last was done, CPU-seconds, MB (PSS) at the peak."""

    finished: int
    seconds: float
    cpu: float
    memory: float


class Meter:
    """Watches the memory of all our descendants; use it as a context manager."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            total = 0.0
            for process in psutil.Process().children(recursive=True):
                try:
                    with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as file:
                        total += next(int(line.split()[1]) for line in file if line.startswith("Pss:")) / 1024
                except (OSError, StopIteration):
                    continue
            self.peak = max(self.peak, total)


def cpu_of_descendants() -> float:
    """CPU-seconds of everything below this process that is alive, and of what it has waited for."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return total + ended.ru_utime + ended.ru_stime


async def alone(opencode: OpenCode, server: ModelServer, folder: Path, count: int) -> Cost:
    """`opencode run`, `count` times at once."""
    model = Model("bench/m", "m", server.url)

    async def one(index: int) -> bool:
        workspace = create_workspace(folder / str(index), "workspace", FILES, {}, folder / str(index))
        settings = json.loads(json.dumps(configuration(model, roles().values(), ["train.py"])))
        settings["provider"]["lab"]["options"]["baseURL"] = server.url
        home = folder / str(index) / "home"
        config = home / ".config" / "opencode"
        seed_plugin_folder(config)
        (config / "opencode.json").write_text(json.dumps(settings), encoding="utf-8")
        environment = {
            "HOME": str(home), "PATH": os.environ["PATH"], "PWD": str(workspace), "Malloc": "1", "TERM": "dumb",
            "OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1",
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *(str(opencode.path), "run", "--agent", "worker", "--title", "t", "--format", "json"),
            cwd=workspace, env=environment, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await process.communicate(PROMPT.encode())
        return "RATE = 0.7" in (workspace / "train.py").read_text(encoding="utf-8")

    before, began = cpu_of_descendants(), time.monotonic()
    with Meter() as meter:
        done = await asyncio.gather(*(one(index) for index in range(count)))
    return Cost(sum(done), time.monotonic() - began, cpu_of_descendants() - before, meter.peak)


async def seated(opencode: OpenCode, server: ModelServer, folder: Path, count: int) -> tuple[Cost, Cost]:
    """The same in seats: the first session with its start, and the next one."""
    async with ClientSession() as http:
        endpoint = Endpoint(Model("bench/m", "m", server.url), http, True, lambda text: None)
        settings = configuration(endpoint.model, roles().values(), ["train.py"])
        seats = []
        for index in range(count):
            gateway = Gateway(endpoint, Allowance(), Patience())
            seats.append(Seat(folder / str(index), opencode, gateway, settings, [folder / "repository.git"]))

        async def one(seat: Seat) -> bool:
            await asyncio.to_thread(create_workspace, folder, "workspace", FILES, {}, seat.room)
            await seat.ensure()
            seat.gateway.begin()
            session = await seat.open("worker")
            await seat.ask(session, "worker", PROMPT, PATIENT)
            await seat.close(session)
            return "RATE = 0.7" in (seat.workspace / "train.py").read_text(encoding="utf-8")

        costs = []
        try:
            for _ in range(2):
                before, began = cpu_of_descendants(), time.monotonic()
                own = time.thread_time()  # the gateways run here; the model's server in a thread of its own
                with Meter() as meter:
                    done = await asyncio.gather(*(one(seat) for seat in seats))
                used = cpu_of_descendants() - before + time.thread_time() - own
                costs.append(Cost(sum(done), time.monotonic() - began, used, meter.peak))
        finally:
            await asyncio.gather(*(seat.stop() for seat in seats))
    return costs[0], costs[1]


def main() -> int:
    """Print the table; exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--agents", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3, help="of the case with one agent; the median counts")
    options = parser.parse_args()
    opencode, met = find_opencode(), True
    print(f"{'agents':>6} {'':<14}{'finished':>9}{'seconds':>9}{'CPU-s each':>12}{'MB each':>9}")
    with ModelServer(set_rate(0.7)) as server:
        for count in options.agents:
            rounds = [_compare(opencode, server, count) for _ in range(options.rounds if count == 1 else 1)]
            rounds.sort(key=lambda found: found["first"].cpu / found["opencode run"].cpu)
            found = rounds[len(rounds) // 2]
            for name, cost in found.items():
                each = f"{cost.cpu / count:>12.2f}{cost.memory / count:>9.0f}"
                print(f"{count:>6} {name:<14}{cost.finished:>9}{cost.seconds:>9.1f}{each}", flush=True)
            ratio, later = (found[name].cpu / found["opencode run"].cpu for name in ("first", "next"))
            print(f"       of the CPU time of `opencode run`: first {ratio:.2f}, next {later:.2f}")
            met = (
                met
                and all(cost.finished == count for cost in found.values())
                and (count > 1 or ratio <= 1.10)
            )
    print(f"bars: at most 1.10 for one, all finish: {'met' if met else 'MISSED'}")
    return not met


def _compare(opencode: OpenCode, server: ModelServer, count: int) -> dict[str, Cost]:
    with tempfile.TemporaryDirectory(prefix="autolab-bench-") as one, tempfile.TemporaryDirectory() as other:
        run = asyncio.run(alone(opencode, server, Path(one), count))
        first, after = asyncio.run(seated(opencode, server, Path(other), count))
    return {"opencode run": run, "first": first, "next": after}


if __name__ == "__main__":
    sys.exit(main())
