"""Own the score: what a trial's weights are worth, and whether they got there honestly.

    python evaluate.py                    # the evaluator; the lab runs it after training (environment: see `main`)
    python evaluate.py --scorer           # the scorer; the evaluator starts it, in a sandbox of its own

The evaluator never imports the recipe. It sends windows of held-out text to a scorer, gets raw logits back over a pipe,
and does the softmax, the bits and the bytes itself. The scorer is the only process that runs the recipe's code; it has
no data and no network, and it can do nothing but return numbers or die. Every request goes to a fresh one.

Audit by comparison between requests. Each window is in one request as it is and in another with everything after a
random cut replaced, so that no process ever sees both versions; up to the cut the predictions must agree. That finds
models that look at later tokens (of 512 cuts, a peek at 1 % of the positions escapes all with chance 0.6 %; promotion
adds 4096 cuts), at other rows of a batch, or at earlier requests. A third version, in which words are consistently
swapped for others under the lab's secret, keeps the grammar and breaks what was learnt by heart.

This makes cheating hard to hide, not impossible: a leak much rarer than 1 in the number of cuts passes, and so does a
small share of memorised text. The first gains little, the second is bounded by the byte cap of the artifact.
"""

from __future__ import annotations

import builtins
import fcntl
import hashlib
import json
import keyword
import math
import os
import re
import selectors
import struct
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

import prepare

# -----------------------------------------------------------------------------------------------------------
# 1. Constants.

FIXED_SEED = 20260801  # chooses the windows that score every trial: the same for all, so trials are paired
CPU = prepare.PROFILE == "cpu"
WINDOWS = 512 if CPU else 256  # scored windows, of CONTEXT + 1 tokens; also the number of cuts
FRESH = 4096 if CPU else 512  # fresh windows at confirmation, with as many cuts
BATCH = 32 if CPU else 8  # rows per message; a logit is 4 bytes, so that is 8 or 268 MB
TOLERANCE = 5e-3 if CPU else 5e-2  # bits by which a prediction may differ between two requests
RENAMED = 64  # scored windows that are also read with their words swapped
REPEATED = 16  # windows that are sent intact to both scorers
PREFIXES = 16  # windows of which the other scorer sees the beginning only
ALARM = 0.30  # bits per byte by which swapped words may cost more than the originals; honest: up to 0.13
DIVERGED = 20.0  # bits per byte; nothing that was trained is so bad
FRESH_ALARM = (
    0.10  # bits per byte by which fresh windows may cost more than the fixed ones (honest: about 0.04)
)

MAGIC_ROWS, MAGIC_LOGITS = 0x41524F57, 0x414C4F47
HEADER = struct.Struct("<IIII")  # magic, rows, tokens per row, vocabulary
LN2 = math.log(2)

# Exit codes of the scorer, and what they mean to the evaluator. Once recipe code has run, a code is only a hint.
EXITS = {
    70: ("crash", "exited without an artifact: no model.pt"),
    71: ("illegal", "artifact is not plain tensors"),
    72: ("crash", "train.py cannot be imported by the scorer"),
    73: ("crash", "load_model failed"),
    74: ("crash", "the model failed on a batch"),
    75: ("oom", "the scorer ran out of memory"),
}


class Verdict(Exception):
    """Scoring ended early: a status other than ok, and why."""

    def __init__(self, status: str, cause: str) -> None:
        super().__init__(f"{status}: {cause}")
        self.status, self.cause = status, cause


# -----------------------------------------------------------------------------------------------------------
# 2. Held-out text.


@dataclass(frozen=True)
class Pool:
    """One held-out split. tokens: 1-D array; widths[token]: bytes of text that the token stands for."""

    tokens: np.ndarray
    widths: np.ndarray
    tokenizer: Any
    vocab: int
    context: int

    @classmethod
    def load(cls, folder: Path, split: str) -> Pool:
        """Read a split of heldout/. Raises OSError or KeyError when it is not there."""
        meta = json.loads((folder / "meta.json").read_text())
        tokenizer = prepare.load_tokenizer(folder)
        tokens = np.memmap(folder / f"{split}.bin", dtype=meta["dtype"], mode="r")
        return cls(tokens, np.array(tokenizer.token_bytes()), tokenizer, meta["vocab"], meta["context"])

    def window(self, start: int, length: int | None = None) -> np.ndarray:
        """`length` tokens (default: CONTEXT + 1) from `start`, int32."""
        return np.asarray(self.tokens[start : start + (length or self.context + 1)], dtype=np.int32)

    def starts(self, count: int, random: np.random.Generator, avoid: np.ndarray | None = None) -> np.ndarray:
        """`count` starts of windows that do not overlap one another, nor those at `avoid`.

        Raises ValueError when the text is too short for that many.
        """
        span = self.context + 1
        grid = np.arange(random.integers(span), len(self.tokens) - 2 * span, span)
        if avoid is not None:
            taken = np.sort(avoid)
            after = np.searchsorted(taken, grid - span, side="right")  # the first one that could overlap
            near = taken[np.minimum(after, len(taken) - 1)]
            grid = grid[np.abs(near - grid) >= span]
        if len(grid) < count:
            raise ValueError(f"{count} windows are needed, the held-out text has room for {len(grid)} only")
        return random.permutation(grid)[:count]


def keyed(*parts: object) -> np.random.Generator:
    """A random generator that the parts (a secret among them) decide."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


# -----------------------------------------------------------------------------------------------------------
# 3. The three ways to change a window.


def splice(window: np.ndarray, cut: int, pool: Pool, random: np.random.Generator) -> np.ndarray:
    """Replace window[cut:] by other held-out text whose first token differs from the one it replaces."""
    rest = len(window) - cut
    while True:
        start = int(random.integers(len(pool.tokens) - rest))
        if pool.tokens[start] != window[cut]:
            return np.concatenate([window[:cut], pool.window(start, rest)])


WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_]{3,}")
KEPT = {word.encode() for word in (*keyword.kwlist, *keyword.softkwlist, *dir(builtins), "self")}


def word_swaps(text: bytes, random: np.random.Generator, band: int = 16) -> dict[bytes, bytes]:
    """A permutation of the words of a text: each becomes another of the same length and of similar frequency.

    Keywords and builtins stay: they are grammar. Words are ranked by frequency within their length and permuted
    cyclically within bands of `band`, so that a language model loses little and a memory loses its keys.
    """
    counts = Counter(word for word in WORD.findall(text) if word not in KEPT)
    by_length: dict[int, list[bytes]] = {}
    for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        by_length.setdefault(len(word), []).append(word)
    swaps: dict[bytes, bytes] = {}
    for words in by_length.values():
        for first in range(0, len(words), band):
            ring = [words[first + i] for i in random.permutation(len(words[first : first + band]))]
            swaps |= zip(ring, ring[1:] + ring[:1], strict=True)
    return swaps


def rename(start: int, pool: Pool, swaps: dict[bytes, bytes]) -> np.ndarray:
    """The window at `start` with its words swapped: CONTEXT + 1 tokens, cut from a longer stretch of text."""
    span = pool.context + 1
    text = pool.tokenizer.decode(pool.window(start, 2 * span))
    swapped = WORD.sub(lambda match: swaps.get(match.group(), match.group()), text)
    return np.array(pool.tokenizer.encode(swapped)[:span], dtype=np.int32)


# -----------------------------------------------------------------------------------------------------------
# 4. Requests: which rows go to which scorer.


@dataclass
class Row:
    """One row of a request. Inputs are tokens[:-1]; `targets` are what they are scored against, one per input.

    kind: intact, cut, prefix or renamed. valid: how many leading predictions depend on unchanged tokens only.
    """

    kind: str
    start: int
    inputs: np.ndarray
    targets: np.ndarray
    valid: int
    bits: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))


def intact_row(pool: Pool, start: int) -> Row:
    window = pool.window(start)
    return Row("intact", start, window[:-1], window[1:], pool.context)


def cut_row(pool: Pool, start: int, random: np.random.Generator) -> Row:
    """Inputs are changed from a random cut on; the prediction of the first changed token is the last valid one."""
    window = pool.window(start)
    cut = int(random.integers(1, pool.context))
    return Row("cut", start, splice(window, cut, pool, random)[:-1], window[1:], cut)


def prefix_row(pool: Pool, start: int, random: np.random.Generator) -> Row:
    """Only the beginning of a window. A few lengths, so that rows of one length can share a message."""
    length = max(1, pool.context * int(random.integers(1, 5)) // 5)
    window = pool.window(start, length + 1)
    return Row("prefix", start, window[:-1], window[1:], length)


def renamed_row(pool: Pool, start: int, swaps: dict[bytes, bytes]) -> Row:
    window = rename(start, pool, swaps)
    return Row("renamed", start, window[:-1], window[1:], 0)


@dataclass
class Plan:
    """Two requests, and the windows whose mean is the score."""

    requests: tuple[list[Row], list[Row]]
    scored: np.ndarray


def plan(pool: Pool, starts: np.ndarray, extra: np.ndarray, random: np.random.Generator) -> Plan:
    """Spread the scored windows (`starts`) and the audit's own (`extra`) over two requests.

    Every window is intact in one request and changed in the other: cut, or, for RENAMED of the scored ones, with its
    words swapped. `extra` holds as many windows to cut instead of those, then the prefixes, then the repeats.
    """
    requests: tuple[list[Row], list[Row]] = ([], [])
    instead = max(0, len(extra) - PREFIXES - REPEATED)
    renamed = set(random.permutation(starts)[:instead].tolist())
    swaps = word_swaps(pool.tokenizer.decode(pool.tokens[:8_000_000]), random) if renamed else {}
    prefixes = set(extra[-PREFIXES - REPEATED : -REPEATED].tolist())
    repeats = set(extra[-REPEATED:].tolist())
    for number, start in enumerate(random.permutation(np.concatenate([starts, extra])).tolist()):
        here, there = requests if number % 2 else requests[::-1]
        here.append(intact_row(pool, start))
        if start in renamed:
            there.append(renamed_row(pool, start, swaps))
        elif start in prefixes:
            there.append(prefix_row(pool, start, random))
        elif start in repeats:
            there.append(intact_row(pool, start))
        else:
            there.append(cut_row(pool, start, random))
    for rows in requests:
        rows[:] = [rows[i] for i in random.permutation(len(rows))]
    return Plan(requests, starts)


def messages(rows: list[Row]) -> list[list[Row]]:
    """Rows of one length, BATCH at a time; the short ones fall between the others."""
    by_length: dict[int, list[list[Row]]] = {}
    order: list[list[Row]] = []
    for row in rows:
        batches = by_length.setdefault(len(row.inputs), [])
        if not batches or len(batches[-1]) == BATCH:
            batches.append([])
            order.append(batches[-1])
        batches[-1].append(row)
    return order


# -----------------------------------------------------------------------------------------------------------
# 5. Talking to a scorer.


class Scorer:
    """One fresh scorer process. Everything it says is untrusted; only byte counts that we fixed ourselves are read.

    Raises Verdict when it dies, says too little or too much, or misses the deadline.
    """

    def __init__(self, prefix: list[str], vocab: int, deadline: float) -> None:
        command = [*prefix, sys.executable, "evaluate.py", "--scorer"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.to, self.out, self.err = (
            stream.fileno() for stream in (self.process.stdin, self.process.stdout, self.process.stderr)
        )
        for pipe_end in (self.to, self.out, self.err):
            os.set_blocking(pipe_end, False)
            if hasattr(fcntl, "F_SETPIPE_SZ"):
                fcntl.fcntl(pipe_end, fcntl.F_SETPIPE_SZ, 1 << 20)
        self.vocab, self.deadline = vocab, deadline
        self.tail = b""  # the last that it wrote to stderr
        self.has_seen_text = False

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream
            stream.close()

    def logits(self, rows: list[Row]) -> np.ndarray:
        """Send rows of one length; return their logits, float32 [rows, T, vocab]."""
        self.has_seen_text = True
        tokens = np.stack([row.inputs for row in rows])
        shape = (*tokens.shape, self.vocab)
        answer = np.empty(shape, np.float32)
        head = bytearray(HEADER.size)
        self._exchange(HEADER.pack(MAGIC_ROWS, *shape) + tokens.tobytes(), memoryview(head))
        if HEADER.unpack(head) != (MAGIC_LOGITS, *shape):
            magic, *said = HEADER.unpack(head)
            if magic != MAGIC_LOGITS:
                raise Verdict("crash", "the scorer's answer is not in the protocol")
            raise Verdict("crash", f"the model returned logits of shape {tuple(said)}, not {shape}")
        self._exchange(b"", memoryview(answer).cast("B"))
        return answer

    def finish(self) -> None:
        """Say that there is no more, and make sure that the scorer has no more to say."""
        assert self.process.stdin
        self.process.stdin.close()
        surplus = bytearray(1)
        self.deadline = min(self.deadline, time.monotonic() + 10)
        if self._exchange(b"", memoryview(surplus), may_end=True):
            raise Verdict("crash", "the scorer wrote more bytes than it was asked for")

    def _exchange(self, message: bytes, answer: memoryview, may_end: bool = False) -> int:
        """Write all of `message`, fill all of `answer`; returns the bytes read (fewer only if `may_end`)."""
        unsent, filled = memoryview(message), 0
        with selectors.DefaultSelector() as ready:
            ready.register(self.out, selectors.EVENT_READ)
            ready.register(self.err, selectors.EVENT_READ)
            if unsent:
                ready.register(self.to, selectors.EVENT_WRITE)
            while unsent or filled < len(answer):
                left = self.deadline - time.monotonic()
                if left <= 0:
                    raise Verdict("crash", "the scorer missed its deadline")
                for key, _ in ready.select(min(left, 1.0)):
                    if key.fd == self.err:
                        said = os.read(self.err, 65536)
                        self.tail = (self.tail + said)[-4096:]
                        if not said:
                            ready.unregister(self.err)
                    elif key.fd == self.to:
                        try:
                            unsent = unsent[os.write(self.to, unsent) :]
                        except BrokenPipeError:
                            self._dead()
                        if not unsent:
                            ready.unregister(self.to)
                    else:
                        count = os.readv(self.out, [answer[filled : filled + (1 << 22)]])
                        if count == 0:
                            if may_end:
                                return filled
                            self._dead()
                        filled += count
                        if filled == len(answer):
                            ready.unregister(self.out)
        return filled

    def _dead(self) -> NoReturn:
        try:
            code = self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            raise Verdict("crash", "the scorer closed its output") from None
        while said := self._rest():
            self.tail = (self.tail + said)[-4096:]
        text = self.tail.decode("utf-8", "replace").strip()
        last = text.splitlines()[-1][:120] if text else ""
        if self.has_seen_text:
            # Nothing that it says now may reach a log, for it could say held-out text: only what kind of error it was.
            kind = last.split(":")[0]
            text = last = kind if isinstance(getattr(builtins, kind, None), type) else ""
        print(text, file=sys.stderr)
        if code in (-9, 137):
            raise Verdict("oom", "the scorer was killed, most likely for its memory")
        unknown = "crash", f"the scorer exited with code {code} before it had answered"
        status, cause = EXITS.get(code, unknown)
        raise Verdict(status, f"{cause} ({last})" if last and code not in (70, 71) else cause)

    def _rest(self) -> bytes:
        try:
            return os.read(self.err, 65536)
        except BlockingIOError:
            return b""


def bits_of(logits: np.ndarray, targets: np.ndarray, at_once: int = 2048) -> np.ndarray:
    """-log2 softmax(logits)[target]: [rows, T, V], [rows, T] -> float32 [rows, T]. Overwrites `logits`.

    The largest logit is subtracted first, so nothing overflows; every distribution sums to one by construction, and a
    result is never below zero. Work is done in pieces that stay in the processor's cache.
    """
    flat, wanted = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    bits = np.empty(len(flat), np.float32)
    at_once = max(1, at_once * 256 // flat.shape[1])
    with np.errstate(all="ignore"):
        for first in range(0, len(flat), at_once):
            part = flat[first : first + at_once]
            part -= part.max(axis=1, keepdims=True)
            hit = np.take_along_axis(part, wanted[first : first + at_once, None], axis=1)[:, 0]
            np.exp(part, out=part)
            bits[first : first + at_once] = (np.log(part.sum(axis=1)) - hit) / LN2
    return bits.reshape(targets.shape)


def run_request(prefix: list[str], rows: list[Row], vocab: int, deadline: float) -> None:
    """Send one request to one fresh scorer and fill in the bits of every row. Raises Verdict."""
    with Scorer(prefix, vocab, deadline) as scorer:
        for batch in messages(rows):
            bits = bits_of(scorer.logits(batch), np.stack([row.targets for row in batch]))
            if not np.isfinite(bits).all():
                raise Verdict("nan", "the model's logits are not finite")
            for row, row_bits in zip(batch, bits, strict=True):
                row.bits = row_bits
        scorer.finish()


# -----------------------------------------------------------------------------------------------------------
# 6. What the answers say.


@dataclass
class Findings:
    """Score and audit of one plan: bits per byte and its standard error, cost of renaming, cuts tested."""

    bpb: float
    bpb_se: float
    renamed_gap: float
    cuts: int


def mean_bpb(bits: np.ndarray, size: np.ndarray) -> tuple[float, float]:
    """Bits per byte of all windows together, and the standard error over windows (ratio estimator)."""
    ratio = float(bits.sum() / size.sum())
    spread = bits - ratio * size
    return ratio, float(spread.std(ddof=1) / math.sqrt(len(bits)) / size.mean()) if len(bits) > 1 else 0.0


def totals(rows: list[Row], pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Bits and bytes of each row."""
    bits = np.array([row.bits.sum(dtype=np.float64) for row in rows])
    return bits, np.array([pool.widths[row.targets].sum() for row in rows], dtype=np.float64)


def largest_change(one: Row, other: Row) -> float:
    """Bits by which the predictions that both rows should share differ at most, beyond rounding.

    Rounding errors grow with the logits, and so with the bits of a model that is sure and wrong: 0.1 % is allowed.
    """
    valid = min(one.valid, other.valid)
    here, there = one.bits[:valid].astype(np.float64), other.bits[:valid].astype(np.float64)
    return float((np.abs(here - there) - 1e-3 * np.maximum(here, there)).max())


def audit(planned: Plan) -> tuple[dict[int, Row], int]:
    """Compare the two requests. Returns the intact row of every window, and the number of cuts that were tested.

    Raises Verdict("illegal") when predictions depend on anything but the tokens before them.
    """
    intact: dict[int, Row] = {}
    repeats: list[float] = []
    for row in (row for rows in planned.requests for row in rows if row.kind == "intact"):
        if row.start in intact:
            repeats.append(largest_change(row, intact[row.start]))
        intact[row.start] = row
    changes: dict[str, list[float]] = {"cut": [], "prefix": []}
    for row in (row for rows in planned.requests for row in rows if row.kind in changes):
        changes[row.kind].append(largest_change(row, intact[row.start]))
    whys = {
        "a window was asked again beside other rows": repeats,
        "later tokens were left out": changes["prefix"],
        "a later token changed": changes["cut"],
    }
    for why, found in whys.items():
        if any(change > TOLERANCE for change in found):
            # How many, and by how much, would tell an agent where the cuts are.
            kind = "unstable prediction" if found is repeats else "future leak: a prediction"
            raise Verdict("illegal", f"{kind} changed when {why}")
    return intact, len(changes["cut"])


def judge(planned: Plan, pool: Pool) -> Findings:
    """Turn the answers to both requests into a score. Raises Verdict when the audit finds something."""
    intact, cuts = audit(planned)
    bpb, error = mean_bpb(*totals([intact[start] for start in planned.scored.tolist()], pool))
    if bpb > DIVERGED:
        raise Verdict("nan", f"the model has diverged: {bpb:.3g} bits per byte")
    renamed = [row for rows in planned.requests for row in rows if row.kind == "renamed"]
    gap = 0.0
    if renamed:
        swapped, _ = mean_bpb(*totals(renamed, pool))
        original, _ = mean_bpb(*totals([intact[row.start] for row in renamed], pool))
        gap = swapped - original
    if gap > ALARM:
        raise Verdict("illegal", f"memorised text: with words renamed it costs {gap:.2f} bits per byte more")
    return Findings(bpb, error, gap, cuts)


def measure(prefix: list[str], planned: Plan, pool: Pool, deadline: float) -> Findings:
    """Run both requests, one after the other, and judge the answers. Raises Verdict."""
    for rows in planned.requests:
        run_request(prefix, rows, pool.vocab, deadline)
    return judge(planned, pool)


def evaluate(
    prefix: list[str], heldout: Path, stage: str, eval_seed: int, secret: str, deadline: float
) -> dict[str, float]:
    """All metrics of one stage (screen, confirm or certify). Raises Verdict."""
    pool = Pool.load(heldout, "sealed" if stage == "certify" else "val")
    extra = RENAMED + PREFIXES + REPEATED
    chosen = pool.starts(WINDOWS + extra, np.random.default_rng(FIXED_SEED))
    # The windows are the same for every trial, so that scores are paired; cuts and renamings never are.
    fixed = plan(pool, chosen[:WINDOWS], chosen[WINDOWS:], keyed(secret, stage, eval_seed, "fixed"))
    found = measure(prefix, fixed, pool, deadline)
    name = "sealed_bpb" if stage == "certify" else "val_bpb"
    metrics = {name: found.bpb, f"{name}_se": found.bpb_se}
    metrics |= {"renamed_gap": found.renamed_gap, "audit_cuts": found.cuts}
    if stage == "confirm":
        random = keyed(secret, eval_seed, "fresh")
        fresh_starts = pool.starts(FRESH, random, avoid=chosen)
        fresh = measure(prefix, plan(pool, fresh_starts, chosen[:0], random), pool, deadline)
        metrics |= {"val_bpb_fresh": fresh.bpb, "audit_cuts": found.cuts + fresh.cuts}
        if fresh.bpb - found.bpb > FRESH_ALARM:
            more = f"{fresh.bpb - found.bpb:.2f} bits per byte more"
            raise Verdict("illegal", f"memorised text: fresh windows cost {more} than the fixed ones")
    return {name: round(float(value), 6) for name, value in metrics.items()}


# -----------------------------------------------------------------------------------------------------------
# 7. The scorer: the recipe's code, on numbers it is sent, in a sandbox.


def scorer() -> None:
    """Load model.pt and answer rows with logits until the input ends. Leaves with one of EXITS when it cannot."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # whatever the recipe prints goes to stderr, never into the protocol

    def leave(code: int, error: BaseException) -> NoReturn:
        memory = type(error).__name__ in ("MemoryError", "OutOfMemoryError") or "allocate" in str(error)
        first = str(error).strip().splitlines()[:1]
        print(f"{type(error).__name__}: {first[0] if first else ''}", file=sys.stderr, flush=True)
        os._exit(75 if memory else code)

    path = prepare.artifact_dir() / "model.pt"
    if not path.is_file():
        leave(70, FileNotFoundError(path.name))
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        leave(71, error)
    try:
        import train
    except BaseException as error:
        leave(72, error)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        with torch.no_grad():
            model = train.load_model(state, device)
    except BaseException as error:
        leave(73, error)
    while len(head := source.read(HEADER.size)) == HEADER.size:
        _, rows, length, _ = HEADER.unpack(head)
        tokens = np.frombuffer(source.read(4 * rows * length), np.int32).reshape(rows, length)
        try:
            with torch.no_grad():
                logits = model(torch.from_numpy(tokens.astype(np.int64)).to(device))
            answer = np.ascontiguousarray(logits.float().cpu().numpy())
        except BaseException as error:
            leave(74, error)
        shape = (*answer.shape, 0, 0, 0)[:3]
        sink.write(HEADER.pack(MAGIC_LOGITS, *shape))
        unsent = memoryview(answer).cast("B")
        while unsent:
            unsent = unsent[sink.write(unsent) :]
    os._exit(0)


# -----------------------------------------------------------------------------------------------------------
# 8. The evaluator.


def main() -> None:
    """Read the environment, measure, leave a result.

    AUTOLAB_DATA: data directory. AUTOLAB_RESULT: where the result goes. AUTOLAB_SCORER: JSON list, what to put before
    the scorer's command to run it in a sandbox. AUTOLAB_STAGE: screen, confirm or certify. AUTOLAB_EVAL_SEED: chooses
    the fresh windows. AUTOLAB_SECRET: chooses cuts and renamings. AUTOLAB_TASK: {metric, budget}. By hand, all may be
    missing.
    """
    started = time.monotonic(), time.process_time()
    environment = os.environ.get
    task = json.loads(environment("AUTOLAB_TASK") or "{}")
    low = (task.get("metric", {}).get("bounds") or (0.1,))[0]
    allowed = float(task.get("budget", {}).get("eval_seconds", 600))
    stage = environment("AUTOLAB_STAGE") or "screen"
    # The runner is stricter, and allows four times as long at confirmation; this is for runs by hand.
    deadline = started[0] + allowed * (1 if stage == "screen" else 4) + 30
    result: dict[str, Any] = {"status": "ok", "cause": "", "metrics": {}}
    try:
        metrics = evaluate(
            json.loads(environment("AUTOLAB_SCORER") or "[]"),
            prepare.data_dir() / "heldout",
            stage,
            int(environment("AUTOLAB_EVAL_SEED") or 0),
            environment("AUTOLAB_SECRET") or "by hand",
            deadline,
        )
        name, score = next(iter(metrics.items()))
        if score < low:
            raise Verdict("illegal", f"{name} {score:.3g} is below {low:g}: too good to be true")
        result["metrics"] = metrics
    except Verdict as verdict:
        result |= {"status": verdict.status, "cause": verdict.cause}
    if path := environment("AUTOLAB_RESULT"):
        prepare.write_atomically(Path(path), json.dumps(result).encode())
    seconds, cpu = time.monotonic() - started[0], time.process_time() - started[1]
    print(json.dumps(result), f"{stage}: {seconds:.1f} s, {cpu:.1f} CPU-s without the scorers", flush=True)


if __name__ == "__main__":
    scorer() if "--scorer" in sys.argv else main()
