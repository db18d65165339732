"""A model server for the scale benchmark: changes one number of the program in the prompt, after a stated latency.

Its answer holds what both systems look for. `GET /stats` tells how many requests it had and how many at once.

    python benchmarks/scale_model.py --latency 2
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import resource
import time
from typing import Any

from aiohttp import web

PARAMS = re.compile(r"^PARAMS = \[(.*)\]$", re.M)


class Mutator:
    """One seeded mutator, shared by all requests."""

    def __init__(self, latency: float, seed: int) -> None:
        self.latency, self.rng = latency, random.Random(seed)
        self.requests = self.in_flight = self.most_in_flight = self.without_program = 0

    def answer(self, prompt: str) -> str:
        """One number changed, as a search/replace block."""
        heading = prompt.rfind("# Current Program")
        found = PARAMS.search(prompt, max(heading, 0))
        if found is None:
            self.without_program += 1
            return "there is no program"
        numbers = [float(x) for x in found[1].split(",")]
        place = self.rng.randrange(len(numbers))
        numbers[place] = round(numbers[place] + self.rng.gauss(0, 0.1), self.rng.randint(6, 12))
        new = "PARAMS = [" + ", ".join(map(repr, numbers)) + "]"
        return (
            f"HYPOTHESIS: number {place} moved to {numbers[place]} comes nearer to the optimum\nSURFACE: any\n"
            f"EXPECTED: a little better\nSOURCES: none\ntrain.py\n"
            f"<<<<<<< SEARCH\n{found[0]}\n=======\n{new}\n>>>>>>> REPLACE\n"
        )

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions, streamed if asked."""
        asked: dict[str, Any] = json.loads(await request.read())
        self.requests += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        if self.latency:
            await asyncio.sleep(self.latency)
        self.in_flight -= 1
        prompt = "\n".join(str(message["content"]) for message in asked["messages"])
        said = self.answer(prompt)
        head = {"id": "x", "created": int(time.time()), "model": asked.get("model", "mutator")}
        counted = {"prompt_tokens": len(prompt) // 4, "completion_tokens": len(said) // 4}
        usage = {**counted, "total_tokens": sum(counted.values())}
        if not asked.get("stream"):
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
            return web.json_response(
                {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
            )
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        delta = {"index": 0, "finish_reason": "stop", "delta": {"role": "assistant", "content": said}}
        chunks = [{**head, "object": "chat.completion.chunk", "choices": [delta], "usage": usage}]
        text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        await response.write(text.encode())
        await response.write_eof()
        return response

    async def stats(self, request: web.Request) -> web.Response:
        """GET /stats."""
        return web.json_response(
            {
                "requests": self.requests,
                "most_in_flight": self.most_in_flight,
                "without_program": self.without_program,
            }
        )


def main() -> None:
    """Serve until killed; the port is printed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    mutator = Mutator(options.latency, options.seed)
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/chat/completions", mutator.chat)
    app.router.add_get("/stats", mutator.stats)

    async def serve() -> None:
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
