"""Do ten requests, worded as people word them, each lead to the right skill?

The real OpenCode, the real pack, and a model that knows nothing but what it is shown: it loads the skill whose
listed description shares the most telling words with the request. For each request the model server's log must show
a context that lists the skill, and then one that holds its text. Bars: ten of ten; all descriptions together under
2,000 tokens.
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from conftest import write_toy
from open_code import project, run_opencode
from stand_ins.model_server import ModelServer, Request, Step, call, say

from autolab.pack.install import install
from autolab.pack.skills import listing_tokens, skills

REQUESTS = {
    "search-papers": "is there any literature on warm-up that we could use? give me new ideas with arXiv sources",
    "plan-experiments": "the search has stalled, what should we try next? order the queue",
    "run-a-trial": "test the hypothesis that a smaller batch helps: run one experiment with that change",
    "read-the-lineage": "what was tried already and which were dead ends?",
    "launch-hf-jobs": "what would a cloud GPU on HF Jobs cost, and is my job still running?",
    "warm-hub-cache": "the first run on the other machine is slow, can we upload the prepared data to a cache?",
    "publish-results": "push the results to the Hugging Face Hub so that my colleague can see the table",
    "report-progress": "write me the morning report: where do we stand, what did it cost?",
    "bring-your-own-task": "I have my own training script in another project, set the lab up to optimise its metric",
    "steer-and-stop": "pause tonight's search and leave the tokenizer alone when it goes on",
}


def words(text: str) -> list[str]:
    """Lower-case words, roughly without endings."""
    return [re.sub(r"(ing|ed|es|s)$", "", word) for word in re.findall(r"[a-z]{3,}", text.lower())]


def listed(system: str) -> dict[str, str]:
    """Name -> description of the skills that a system prompt lists."""
    found = re.findall(r"<name>([^<]+)</name>\s*<description>([^<]*)</description>", system)
    return {name.strip(): description for name, description in found}


def choose(request: str, offered: dict[str, str]) -> str:
    """The skill whose description shares the most words with the request, rare words counting more."""
    seen = Counter(word for text in offered.values() for word in set(words(text)))
    weight = {word: math.log(1 + len(offered) / count) for word, count in seen.items()}

    def score(name: str) -> float:
        return sum(
            weight.get(word, 0.0) for word in set(words(request)) & set(words(f"{name} {offered[name]}"))
        )

    return max(sorted(offered), key=score)


def model(request: Request) -> Step:
    """Loads what it chose, then says what it read."""
    if request.turn == 0:
        return call("skill", name=choose(request.prompt, listed(request.system)))
    return say((request.results or ("nothing",))[-1][:200])


def main() -> int:
    """Print the table; exit code 1 if a bar is missed."""
    tokens = listing_tokens(skills())
    right = 0
    print(f"{'request':<22}{'listed':>8}  {'loaded':<22}{'its text in the context':>24}")
    with tempfile.TemporaryDirectory(prefix="autolab-bench-") as folder, ModelServer(model) as server:
        lab = write_toy(Path(folder) / "toy")
        subprocess.run(["git", "init", "--quiet", str(lab)], check=True)
        install(lab)
        place = project(Path(folder), server.url, directory=lab)
        session = ""
        for wanted, text in REQUESTS.items():
            before = len(server.requests)
            done = run_opencode(place, text, agent="lab", session=session)
            session = done.id
            log = [r for r in server.requests[before:] if r.kind == "chat"]
            there = wanted in listed(log[0].system)
            loaded = next((str(c.input.get("name")) for c in done.calls if c.tool == "skill"), "none")
            body = (
                skills()[wanted].path.read_text(encoding="utf-8").split("---\n", 2)[2].strip().splitlines()[0]
            )
            held = any(body in result for r in log for result in r.results)
            right += there and loaded == wanted and held
            print(f"{wanted:<22}{there!s:>8}  {loaded:<22}{held!s:>24}", flush=True)
    print(f"{right} of {len(REQUESTS)} right; all descriptions together take about {tokens} tokens")
    met = right == len(REQUESTS) and tokens < 2000
    print(f"bars: 10 of 10, under 2000 tokens: {'met' if met else 'MISSED'}")
    return not met


if __name__ == "__main__":
    sys.exit(main())
