"""The default task at the repository's root: data, clock, evaluator, moves. Small data, no training."""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def prepare() -> Iterator[Any]:
    """prepare.py of the default task, in the CPU profile."""
    yield from _imported("prepare")


@pytest.fixture(scope="module")
def evaluate(prepare: Any) -> Iterator[Any]:
    """evaluate.py of the default task."""
    yield from _imported("evaluate")


def _imported(name: str) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        for variable in [key for key in os.environ if key.startswith("AUTOLAB_")]:
            patch.delenv(variable)
        patch.syspath_prepend(ROOT)
        yield importlib.import_module(name)
        sys.modules.pop(name, None)


# ------------------------------------------------------------------------------------------------------------
# Data.


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small standard library: 60 modules, a package, a test folder; each file names itself in a comment."""
    root = tmp_path_factory.mktemp("library")
    (root / "package").mkdir()
    (root / "test").mkdir()
    names = [f"module{i}" for i in range(40)] + [f"package/part{i}" for i in range(20)]
    for name in [*names, "os", "test/test_it"]:
        stem = name.replace("/", "_")
        body = "".join(f"def {stem}_{i}(value):\n    return value + {i}\n\n\n" for i in range(16))
        (root / f"{name}.py").write_text(f'"""DOC-{stem}"""\n# SECRET-{stem}\n{body}')
    (root / "package" / "__init__.py").write_text("")
    return root


def test_split_is_a_function_of_content(prepare: Any, library: Path) -> None:
    files = prepare.stdlib_files(library)
    assert files == prepare.stdlib_files(library)
    assert set(files.values()) == {"train", "val", "sealed", "unscored"}
    assert files["os.py"] == files["package/__init__.py"] == "unscored"
    assert not any(name.startswith("test/") for name in files)
    documents = list(prepare.stdlib_documents(library, files))
    assert documents == list(prepare.stdlib_documents(library, files))
    assert len({content for _, content in documents}) == len(documents) == 60
    for name, split in files.items():
        if split != "unscored":
            assert prepare.split_of((library / name).read_bytes()) == split


def test_shares_of_many_documents(prepare: Any) -> None:
    splits = [prepare.split_of(str(number).encode()) for number in range(4000)]
    for name, share in prepare.SHARES.items():
        assert splits.count(name) / 4000 == pytest.approx(share, abs=0.03)


def test_shadow_holds_no_heldout_text_and_still_imports(prepare: Any, library: Path, tmp_path: Path) -> None:
    files = prepare.stdlib_files(library)
    prepare.write_shadow(library, files, tmp_path / "stdlib")
    everything = b"".join(path.read_bytes() for path in (tmp_path / "stdlib").rglob("*") if path.is_file())
    for name, split in files.items():
        stem = name.removesuffix(".py").replace("/", "_").encode()
        if name != "package/__init__.py":
            visible = split in ("train", "unscored")
            assert (b"SECRET-" + stem + b"\n" in everything) == visible
            assert (b'"""DOC-' + stem + b'"""' in everything) == visible
    heldout = [name.removesuffix(".py").replace("/", ".") for name, split in files.items() if split == "val"]
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'stdlib')!r}); import {', '.join(heldout)}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_copies_elsewhere_are_found(prepare: Any, library: Path, tmp_path: Path) -> None:
    files = prepare.stdlib_files(library)
    heldout = prepare.telling_lines(prepare.stdlib_documents(library, files))
    assert not heldout  # the small library's lines are short
    content = b"".join(b"%d: a line that is long enough to be told from others\n" % i for i in range(9))
    (tmp_path / "python2.7").mkdir()
    for name in ("argparse.py", "pickletools.py", "other.py"):
        (tmp_path / "python2.7" / name).write_bytes(content)
    (tmp_path / "tool" / "__pycache__").mkdir(parents=True)
    (tmp_path / "tool" / "vendored.py").write_bytes(content)
    (tmp_path / "tool" / "own.py").write_bytes(content[:200])
    found = set(prepare.copies_elsewhere([tmp_path], set(content.splitlines())))
    tool = tmp_path / "tool"
    assert found == {tmp_path / "python2.7", tool / "vendored.py", tool / "__pycache__"}


def test_prepare_is_idempotent_and_mends_itself(
    prepare: Any, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "stdlib_dir", lambda: library)
    monkeypatch.setattr(prepare, "copies_elsewhere", lambda places, heldout: iter(()))
    monkeypatch.setattr(prepare, "CONTEXT", 16)
    assert not prepare.is_ready(tmp_path)
    prepare.build(tmp_path)
    assert prepare.is_ready(tmp_path)
    manifest = (tmp_path / "manifest.json").read_bytes()
    assert set(json.loads(manifest)["files"]) == {
        "train/train.bin", "train/meta.json", "heldout/val.bin", "heldout/sealed.bin", "heldout/meta.json",
    }  # fmt: skip
    assert json.loads((tmp_path / "overlay.json").read_text())[0] == [str(library), "stdlib"]
    val = tmp_path / "heldout" / "val.bin"
    val.write_bytes(val.read_bytes()[:-1] + b"!")
    assert not prepare.is_ready(tmp_path)
    prepare.build(tmp_path)
    assert prepare.is_ready(tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == manifest
    assert not list(tmp_path.glob(".building-*"))


def test_checking_the_data_needs_no_torch() -> None:
    code = "import sys, prepare; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_batches_repeat_for_a_seed(prepare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "train.bin").write_bytes(bytes(range(256)) * 4)
    (tmp_path / "train" / "meta.json").write_text(json.dumps({"vocab": 256, "dtype": "uint8"}))
    monkeypatch.setenv("AUTOLAB_DATA", str(tmp_path))
    monkeypatch.setenv("AUTOLAB_SEED", "3")
    inputs, targets = prepare.Batches(5).next()
    assert tuple(inputs.shape) == tuple(targets.shape) == (5, prepare.CONTEXT)
    assert ((inputs + 1) % 256 == targets).all()
    assert (inputs == prepare.Batches(5).next()[0]).all()
    monkeypatch.setenv("AUTOLAB_SEED", "4")
    assert (inputs != prepare.Batches(5).next()[0]).any()


class _Hub(types.ModuleType):
    """Stands in for the `datasets` package: `rows` documents, and an error after `fails_at` of them."""

    def __init__(self, rows: int, fails_at: int | None = None) -> None:
        super().__init__("datasets")
        self.rows, self.fails_at, self.skipped, self.asked = rows, fails_at, 0, {}

    def load_dataset(self, name: str, **options: Any) -> _Hub:
        self.asked = {"name": name, **options}
        return self

    def skip(self, count: int) -> Iterator[dict[str, str]]:
        self.skipped = count
        for number in range(count, self.rows):
            if number == self.fails_at:
                raise ConnectionError("no route to host")
            yield {"text": f"document {number} " + "word " * 20}


def test_hub_download_resumes(prepare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "HUB_SHARD_BYTES", 1000)
    monkeypatch.setattr(prepare, "HUB_BYTES", 8000)
    monkeypatch.setitem(sys.modules, "datasets", _Hub(200, fails_at=30))
    with pytest.raises(SystemExit, match=r"cannot read a/b@c .*no route to host.*AUTOLAB_DATASET"):
        prepare.hub_shards("a/b@c", tmp_path)
    hub = _Hub(200)
    monkeypatch.setitem(sys.modules, "datasets", hub)
    documents = list(prepare.hub_documents(prepare.hub_shards("a/b@c", tmp_path)))
    assert hub.asked == {"name": "a/b", "revision": "c", "split": "train", "streaming": True}
    assert hub.skipped > 0
    numbers = [int(content.split()[1]) for _, content in documents]
    assert numbers == list(range(len(numbers))) and len(numbers) > 50
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert len(prepare.hub_shards("a/b@c", tmp_path)) >= 8  # complete: not asked again
    with pytest.raises(SystemExit, match="pip install datasets"):
        prepare.hub_shards("a/b@other", tmp_path / "other")
    with pytest.raises(SystemExit, match="no revision"):
        prepare.hub_shards("a/b", tmp_path)


@pytest.fixture
def fetched(prepare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a Hub dataset as it comes from another machine; nothing can be read from the Hub any more."""
    monkeypatch.setattr(prepare, "DATASET", "a/b@c")
    monkeypatch.setattr(prepare, "HUB_SHARES", prepare.SHARES)
    monkeypatch.setenv("AUTOLAB_CACHE", str(tmp_path / "raw"))
    monkeypatch.setitem(sys.modules, "datasets", _Hub(200))
    folder = tmp_path / "cache" / "made-elsewhere"
    prepare.build(folder)
    monkeypatch.setenv("AUTOLAB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setitem(sys.modules, "datasets", _Hub(200, fails_at=0))
    for own in ("stamp.json", "overlay.json"):
        (folder / own).unlink()
    return folder


def test_a_fetched_dataset_is_taken_as_it_is(
    prepare: Any, fetched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOLAB_DATA", str(fetched))
    manifest = (fetched / "manifest.json").read_bytes()
    assert not prepare.is_ready(fetched)
    prepare.main()
    assert prepare.is_ready(fetched)
    assert (fetched / "manifest.json").read_bytes() == manifest
    assert (fetched / "overlay.json").read_text() == "[]"


def test_a_dataset_beside_it_serves_another_interpreter(prepare: Any, fetched: Path, tmp_path: Path) -> None:
    target = tmp_path / "cache" / "this-interpreter"
    assert prepare.adopt(target) and prepare.is_ready(target)
    assert (target / "manifest.json").read_bytes() == (fetched / "manifest.json").read_bytes()
    assert not list(target.glob(".building-*"))


@pytest.mark.parametrize("stamped", [False, True])
def test_a_changed_validation_shard_is_refused_by_name(
    prepare: Any, fetched: Path, monkeypatch: pytest.MonkeyPatch, stamped: bool
) -> None:
    monkeypatch.setenv("AUTOLAB_DATA", str(fetched))
    if stamped:
        prepare.main()
    (fetched / "heldout" / "val.bin").write_bytes(b"easier")
    with pytest.raises(SystemExit, match=r"heldout/val\.bin was changed.*delete .*made-elsewhere"):
        prepare.main()


def test_a_changed_folder_beside_it_is_not_taken(prepare: Any, fetched: Path, tmp_path: Path) -> None:
    (fetched / "heldout" / "val.bin").write_bytes(b"easier")
    assert not prepare.adopt(tmp_path / "cache" / "this-interpreter")


@pytest.mark.parametrize("other", [{"dataset": "a/b@d"}, {"code": "0" * 64}])
def test_a_dataset_that_other_code_made_is_made_anew(
    prepare: Any, fetched: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, str]
) -> None:
    manifest = json.loads((fetched / "manifest.json").read_text())
    (fetched / "manifest.json").write_text(json.dumps({**manifest, **other}))
    monkeypatch.setenv("AUTOLAB_DATA", str(fetched))
    with pytest.raises(SystemExit, match="cannot read a/b@c"):
        prepare.main()


def test_another_interpreters_text_is_taken_as_it_is_and_hidden_from_this_one(
    prepare: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cloud's Python is another one: its library must not tell what the data of this campaign holds out."""
    for version in ("theirs", "ours"):
        (tmp_path / version).mkdir()
        for i in range(40):
            lines = [f"value_{i}_{k} = 'a line that is long enough to tell, {i} {k}'" for k in range(20)]
            note = "" if version == "theirs" else "# every hash is another one here\n"
            (tmp_path / version / f"module{i}.py").write_text(note + "\n".join(lines) + "\n")
    monkeypatch.setattr(prepare, "copies_elsewhere", lambda places, heldout: iter(()))
    monkeypatch.setattr(prepare, "stdlib_dir", lambda: tmp_path / "theirs")
    target = tmp_path / "data"
    prepare.build(target)
    manifest = (target / "manifest.json").read_bytes()
    heldout = (target / "heldout" / "val.bin").read_bytes() + (target / "heldout" / "sealed.bin").read_bytes()
    for machine_specific in ("stamp.json", "overlay.json"):
        (target / machine_specific).unlink()
    shutil.rmtree(target / "stdlib")

    monkeypatch.setattr(prepare, "stdlib_dir", lambda: tmp_path / "ours")
    assert prepare.adopt(target) and prepare.is_ready(target)
    assert (target / "manifest.json").read_bytes() == manifest
    assert json.loads((target / "overlay.json").read_text())[0] == [str(tmp_path / "ours"), "stdlib"]
    shown = b"".join(path.read_bytes() for path in (target / "stdlib").glob("*.py"))
    assert shown and not set(shown.splitlines()) & set(heldout.splitlines())


def test_a_changed_text_of_the_standard_library_is_made_anew(
    prepare: Any, fetched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = json.loads((fetched / "manifest.json").read_text())
    (fetched / "manifest.json").write_text(json.dumps({**manifest, "dataset": "python-stdlib"}))
    (fetched / "heldout" / "val.bin").write_bytes(b"easier")
    monkeypatch.setattr(prepare, "DATASET", "python-stdlib")
    assert not prepare.adopt(fetched)


def test_bpe_round_trip(prepare: Any, tmp_path: Path) -> None:
    pytest.importorskip("rustbpe")
    pytest.importorskip("tiktoken")
    text = (ROOT / "prepare.py").read_text()
    prepare.BPE.train([text], 400, tmp_path / "tokenizer.json")
    tokenizer = prepare.load_tokenizer(tmp_path)
    tokens = tokenizer.encode(text.encode())
    widths = tokenizer.token_bytes()
    assert len(widths) == 400 and len(tokens) < len(text) * 0.7
    assert sum(widths[token] for token in tokens) == len(text.encode())
    assert tokenizer.decode(np.array(tokens)) == text.encode()


# ------------------------------------------------------------------------------------------------------------
# Clock.


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setenv("AUTOLAB_CLOCK", str(tmp_path / "clock.json"))
    return monkeypatch


def test_token_budget(prepare: Any, budget: pytest.MonkeyPatch, tmp_path: Path) -> None:
    budget.setenv("AUTOLAB_TOKENS", "1000")
    clock = prepare.Clock()
    steps = 0
    while not clock.done():
        assert clock.progress() == clock.tokens / 1000
        clock.spend(300)
        steps += 1
    record = json.loads((tmp_path / "clock.json").read_text())
    assert (steps, clock.tokens, clock.progress()) == (4, 1200, 1.0)
    assert (record["tokens"], record["steps"], record["mode"]) == (1200, 4, "tokens")


def test_replay_repeats_an_uneven_run(prepare: Any, budget: pytest.MonkeyPatch, tmp_path: Path) -> None:
    budget.setenv("AUTOLAB_CPU_SECONDS", "10")
    random = np.random.default_rng(0)
    now = [1.3]  # imports
    budget.setattr(prepare.time, "process_time", lambda: now[0])
    clock = prepare.Clock()
    seen = []
    while not clock.done():
        seen.append(clock.progress())
        now[0] += float(random.exponential(0.03))
        assert clock.progress() == seen[-1]  # time alone moves nothing
        clock.spend(64)
    record = json.loads((tmp_path / "clock.json").read_text())
    assert len(record["pace"]) == 256 and record["tokens"] == 64 * len(seen)
    assert seen[0] == math.floor(0.13 * 256) / 256 and seen == sorted(seen)

    pace = tmp_path / "pace.json"
    pace.write_text(json.dumps(record))
    budget.setenv("AUTOLAB_PACE", str(pace))
    budget.setattr(prepare.time, "process_time", lambda: pytest.fail("a replay reads no time"))
    clock, again = prepare.Clock(), []
    while not clock.done():
        again.append(clock.progress())
        clock.spend(64)
    assert again == seen
    assert json.loads((tmp_path / "clock.json").read_text()) == record


def test_wall_budget_counts_from_the_start_of_the_process(prepare: Any, budget: pytest.MonkeyPatch) -> None:
    budget.setenv("AUTOLAB_WALL_SECONDS", "1e9")
    assert not prepare.Clock().done()
    budget.setenv("AUTOLAB_WALL_SECONDS", "0.001")
    assert prepare.Clock().done()
    budget.setenv("AUTOLAB_WALL_SECONDS", "-1")
    with pytest.raises(SystemExit, match="above zero"):
        prepare.Clock()


# ------------------------------------------------------------------------------------------------------------
# Evaluator: pieces.


@pytest.fixture
def pool(prepare: Any, evaluate: Any) -> Any:
    """Held-out text of random words, in windows of 32 + 1 bytes."""
    random = np.random.default_rng(1)
    words = [b"alpha", b"gamma", b"delta", b"omega", b"return", b"(x)", b"=", b"\n"]
    text = b" ".join(words[i] for i in random.integers(len(words), size=20_000))
    return evaluate.Pool(np.frombuffer(text, np.uint8), np.ones(256, np.int64), prepare.Bytes(), 256, 32)


def test_bits_are_those_of_a_softmax(evaluate: Any) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(5, 7, 256)).astype(np.float32) * 5
    targets = random.integers(256, size=(5, 7))
    exact = np.exp(logits.astype(np.float64))
    exact = -np.log2(np.take_along_axis(exact / exact.sum(-1, keepdims=True), targets[..., None], -1)[..., 0])
    np.testing.assert_allclose(
        evaluate.bits_of(logits.copy(), targets, at_once=8), exact, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(evaluate.bits_of(logits + 1000, targets), exact, rtol=1e-2, atol=1e-2)
    assert evaluate.bits_of(np.zeros((1, 1, 256), np.float32), np.zeros((1, 1), int))[0, 0] == 8
    for bad in (np.nan, np.inf):
        logits[2, 3, 4] = bad
        assert not np.isfinite(evaluate.bits_of(logits.copy(), targets)[2, 3])


def test_mean_counts_bytes_not_windows(evaluate: Any) -> None:
    mean, error = evaluate.mean_bpb(np.array([10.0, 40.0]), np.array([10.0, 20.0]))
    assert mean == pytest.approx(50 / 30) and error > 0


def test_windows_never_overlap(evaluate: Any, pool: Any) -> None:
    fixed = pool.starts(100, np.random.default_rng(evaluate.FIXED_SEED))
    assert (fixed == pool.starts(100, np.random.default_rng(evaluate.FIXED_SEED))).all()
    fresh = pool.starts(500, np.random.default_rng(5), avoid=fixed)
    every = np.sort(np.concatenate([fixed, fresh]))
    assert np.diff(every).min() >= 33 and every[-1] + 33 <= len(pool.tokens)
    with pytest.raises(ValueError, match="room for"):
        pool.starts(10**6, np.random.default_rng(0))


def test_a_cut_changes_the_next_token_and_nothing_before(evaluate: Any, pool: Any) -> None:
    random = np.random.default_rng(2)
    cuts = []
    for start in pool.starts(200, random).tolist():
        whole, row = evaluate.intact_row(pool, start), evaluate.cut_row(pool, start, random)
        assert (row.inputs[: row.valid] == whole.inputs[: row.valid]).all()
        assert row.inputs[row.valid] != whole.inputs[row.valid]
        assert (row.targets == whole.targets).all() and len(row.inputs) == 32
        cuts.append(row.valid)
    assert min(cuts) < 4 and max(cuts) == 31


def test_words_are_permuted_among_their_like(evaluate: Any, pool: Any) -> None:
    text = pool.tokens.tobytes()
    swaps = evaluate.word_swaps(text, evaluate.keyed("secret"))
    assert set(swaps) == set(swaps.values()) == {b"alpha", b"gamma", b"delta", b"omega"}
    assert all(word != other and len(word) == len(other) for word, other in swaps.items())
    assert swaps == evaluate.word_swaps(text, evaluate.keyed("secret"))
    renamed, original = evaluate.rename(33, pool, swaps), pool.window(33)
    assert renamed.shape == original.shape and (renamed != original).any()
    spaces = original == ord(" ")
    assert (spaces == (renamed == ord(" "))).all()


def test_no_request_sees_two_versions_of_a_window(evaluate: Any, pool: Any) -> None:
    extra = 8 + evaluate.PREFIXES + evaluate.REPEATED
    starts = pool.starts(64 + extra, np.random.default_rng(0))
    planned = evaluate.plan(pool, starts[:64], starts[64:], evaluate.keyed("secret"))
    kinds = [row.kind for rows in planned.requests for row in rows]
    assert kinds.count("cut") == 64 and kinds.count("renamed") == 8
    assert kinds.count("prefix") == evaluate.PREFIXES
    assert kinds.count("intact") == 64 + extra + evaluate.REPEATED
    for rows in planned.requests:
        assert len({row.start for row in rows}) == len(rows)
        batches = evaluate.messages(rows)
        assert sum(map(len, batches)) == len(rows)
        assert all(len({len(row.inputs) for row in batch}) == 1 for batch in batches)


# ------------------------------------------------------------------------------------------------------------
# Evaluator: whole requests, against small scorers that speak the protocol without torch.

SCORER = """
import os, struct, sys
import numpy as np
BEHAVIOUR, VOCAB = sys.argv[1], 256
source, sink, calls = sys.stdin.buffer, sys.stdout.buffer, 0
while head := source.read(16):
    magic, rows, length, vocab = struct.unpack("<IIII", head)
    tokens = np.frombuffer(source.read(4 * rows * length), np.int32).reshape(rows, length)
    logits = np.zeros((rows, length, VOCAB), np.float32)
    logits[..., [32, 97, 10]] = 3
    np.put_along_axis(logits, tokens[..., None], -1, -1)
    if BEHAVIOUR == "peek":
        hit = tokens[:, :-1] % 16 == 1
        np.put_along_axis(logits[:, :-1], tokens[:, 1:, None], np.where(hit, 9.0, 0.0)[..., None], -1)
    elif BEHAVIOUR == "companions":
        logits += 0.1 * np.bincount(tokens.ravel(), minlength=VOCAB).clip(max=5)
    elif BEHAVIOUR == "calls":
        logits[..., 32] += 0.5 * calls
    elif BEHAVIOUR == "nan":
        logits[0, 0, 0] = np.nan
    elif BEHAVIOUR == "die":
        sys.exit("Traceback: lost")
    elif BEHAVIOUR == "hang":
        import time; time.sleep(60)
    calls += 1
    shape = (rows, length, 255) if BEHAVIOUR == "shape" else logits.shape
    sink.write(struct.pack("<IIII", 0x414C4F47, *shape) + logits.tobytes())
    sink.flush()
if BEHAVIOUR == "surplus":
    sink.write(b"more")
"""


@pytest.mark.parametrize(
    ("behaviour", "status", "cause"),
    [
        ("honest", "ok", ""),
        ("peek", "illegal", "future leak"),
        ("companions", "illegal", "unstable prediction|future leak"),
        ("calls", "illegal", "unstable prediction|future leak"),
        ("nan", "nan", "not finite"),
        ("die", "crash", r"exited with code 1 before it had answered$"),  # its words could be held-out text
        ("shape", "crash", "shape"),
        ("surplus", "crash", "more bytes"),
        ("hang", "crash", "deadline"),
    ],
)
def test_verdicts(
    evaluate: Any, pool: Any, monkeypatch: pytest.MonkeyPatch, behaviour: str, status: str, cause: str
) -> None:
    monkeypatch.setattr(evaluate, "BATCH", 16)
    extra = 8 + evaluate.PREFIXES + evaluate.REPEATED
    starts = pool.starts(64 + extra, np.random.default_rng(0))
    planned = evaluate.plan(pool, starts[:64], starts[64:], evaluate.keyed("secret"))
    prefix = [sys.executable, "-c", SCORER, behaviour]
    deadline = time.monotonic() + (1 if behaviour == "hang" else 30)
    if status == "ok":
        found = evaluate.measure(prefix, planned, pool, deadline)
        assert 3 < found.bpb < 9 and found.cuts == 64 and abs(found.renamed_gap) < evaluate.ALARM
    else:
        with pytest.raises(evaluate.Verdict, match=cause) as caught:
            evaluate.measure(prefix, planned, pool, deadline)
        assert caught.value.status == status


def test_memorised_text_sets_off_the_alarm(evaluate: Any, pool: Any) -> None:
    extra = 8 + evaluate.PREFIXES + evaluate.REPEATED
    starts = pool.starts(64 + extra, np.random.default_rng(0))
    planned = evaluate.plan(pool, starts[:64], starts[64:], evaluate.keyed("secret"))
    for row in (row for rows in planned.requests for row in rows):
        row.bits = np.full(len(row.inputs), 3.0 if row.kind == "renamed" else 2.0, np.float32)
    with pytest.raises(evaluate.Verdict, match="memorised text"):
        evaluate.judge(planned, pool)


def test_scorer_of_the_shipped_recipe(evaluate: Any, pool: Any, tmp_path: Path, monkeypatch: Any) -> None:
    torch = pytest.importorskip("torch")
    for train in _imported("train"):
        torch.save(
            {"profile": "cpu", "vocab": 256, "weights": train.GPT(256).state_dict()}, tmp_path / "model.pt"
        )
    monkeypatch.setenv("AUTOLAB_ARTIFACT", str(tmp_path))
    monkeypatch.chdir(ROOT)
    rows = [evaluate.intact_row(pool, start) for start in (0, 100, 200)]
    evaluate.run_request([], rows, 256, time.monotonic() + 60)
    assert all(np.abs(row.bits - 8).max() < 0.2 for row in rows)  # an untrained model knows nothing
    (tmp_path / "model.pt").unlink()
    with pytest.raises(evaluate.Verdict, match="exited without an artifact"):
        evaluate.run_request([], rows, 256, time.monotonic() + 60)


# ------------------------------------------------------------------------------------------------------------
# Moves.


def _moves() -> list[dict[str, Any]]:
    return yaml.safe_load((ROOT / "task.yaml").read_text())["moves"]


def _apply(text: str, move: dict[str, Any]) -> str:
    for edit in move["edits"]:
        assert text.count(edit["search"]) == 1, (move["name"], edit["search"])
        text = text.replace(edit["search"], edit["replace"])
    return text


def test_moves_apply_in_any_order() -> None:
    recipe = (ROOT / "train.py").read_text()
    moves = _moves()
    assert 5 <= len(moves) <= 7 and len({move["name"] for move in moves}) == len(moves)
    for first, second in permutations(moves, 2):
        compile(_apply(_apply(recipe, first), second), "train.py", "exec")
    for move in moves:
        recipe = _apply(recipe, move)
    compile(recipe, "train.py", "exec")


def test_moves_make_models_that_stay_causal(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    recipe = (ROOT / "train.py").read_text()
    for move in _moves():
        recipe = _apply(recipe, move)
    for _ in _imported("prepare"):
        module: dict[str, Any] = {"__name__": "recipe"}
        exec(compile(recipe, "train.py", "exec"), module)
        torch.manual_seed(0)
        model = module["GPT"](256)
        for weight in model.parameters():
            weight.data.normal_(std=0.2)
        tokens = torch.randint(256, (2, 40))
        changed = tokens.clone()
        changed[:, 25:] = torch.randint(256, (2, 15))
        with torch.no_grad():
            before, after = model(tokens), model(changed)
        assert torch.allclose(before[:, :25], after[:, :25], atol=1e-5)
        assert not torch.allclose(before[:, 25:], after[:, 25:])
