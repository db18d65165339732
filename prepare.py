"""What every trial is given and none may change: data, tokenizer, loader, budget clock.

    python prepare.py                     # build the data (idempotent, atomic); the second run only checks it

Two profiles (AUTOLAB_PROFILE):

* `cpu`: bytes of the Python standard library's own sources, so it needs no network and is always there.
* `gpu`: any text dataset of the Hugging Face Hub at a pinned revision (AUTOLAB_DATASET="owner/name@revision"),
  cut into tokens by a byte-pair encoding that is trained once, on the training split.

Documents are split into train / val / sealed by a hash of their content, never by position or chance, so that the
split is the same everywhere and no text is on two sides. Data directory (AUTOLAB_DATA):

    train/     train.bin, meta.json            all that a training run can see
    heldout/   val.bin, sealed.bin, meta.json  for the evaluator alone
    stdlib/    a shadow of Python's standard library without the held-out sources
    overlay.json    binds that lay the shadow over the real one in a sandbox: [[target, source], …]
    manifest.json   sha256 of every data file: what makes two scores comparable

`train.py` uses `CONTEXT`, `PROFILE`, `seed`, `artifact_dir`, `Batches` and `Clock`. torch and numpy are imported only
where they are used: checking the data must stay quick.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import marshal
import os
import py_compile
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).resolve().parent
PROFILE = os.environ.get("AUTOLAB_PROFILE") or "cpu"

# Per profile: tokens of context, dataset, size of the vocabulary (256 = plain bytes), default budget when run by hand.
SETTINGS: dict[str, dict[str, Any]] = {
    "cpu": {"context": 256, "dataset": "python-stdlib", "vocab": 256, "budget": ("cpu", 20.0)},
    "gpu": {
        "context": 1024,
        "dataset": "roneneldan/TinyStories@f54c09fd23315a6f9c86f9dc80f725de7d8f9c64",
        "vocab": 8192,
        "budget": ("wall", 300.0),
    },
}
if PROFILE not in SETTINGS:
    raise SystemExit(f"prepare: AUTOLAB_PROFILE={PROFILE!r} is unknown; choose one of {', '.join(SETTINGS)}")
CONTEXT: int = SETTINGS[PROFILE]["context"]
VOCAB: int = SETTINGS[PROFILE]["vocab"]
DATASET: str = os.environ.get("AUTOLAB_DATASET") or SETTINGS[PROFILE]["dataset"]

# Which share of the documents goes where, by hash. Training reads about 1 MB in its 20 CPU-seconds, so most of
# the text can be held out: even compressed (xz) it is larger than the artifact cap, so it cannot all be smuggled in.
SHARES = {"train": 0.25, "val": 0.60, "sealed": 0.15}
HUB_SHARES = {"train": 0.98, "val": 0.01, "sealed": 0.01}
HUB_BYTES = 2_000_000_000  # text to take from a Hub dataset, all splits together
HUB_SHARD_BYTES = 64_000_000  # … cached in pieces of this size, so that an interrupted download resumes
BPE_SAMPLE_BYTES = 100_000_000  # training text that the tokenizer is learnt from
BPE_PATTERN = (  # GPT-4's, but digits in twos: a small vocabulary has no room for a thousand numbers
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)


def data_dir() -> Path:
    """Where the data is: AUTOLAB_DATA, or a folder beside this file when run by hand."""
    return Path(os.environ.get("AUTOLAB_DATA") or HERE / ".autolab" / f"data-{PROFILE}")


def artifact_dir() -> Path:
    """Where training leaves its result: AUTOLAB_ARTIFACT, or a folder beside this file when run by hand."""
    path = Path(os.environ.get("AUTOLAB_ARTIFACT") or HERE / ".autolab" / "artifact")
    path.mkdir(parents=True, exist_ok=True)
    return path


def seed() -> int:
    """The trial's seed; the lab chooses it."""
    return int(os.environ.get("AUTOLAB_SEED") or 0)


def split_of(content: bytes, shares: dict[str, float] = SHARES) -> str:
    """Name of the split that a document belongs to: a function of its content alone."""
    point = int.from_bytes(hashlib.sha256(content).digest()[:6], "big") / 2**48
    for name, share in shares.items():
        if point < share:
            return name
        point -= share
    return next(reversed(shares))


# -----------------------------------------------------------------------------------------------------------
# 1. Default corpus: the standard library's own sources.

# Not in a sandbox at all: tests, tools, other people's packages, machine-made text.
ABSENT = {
    "test", "tests", "idle_test", "turtledemo", "ensurepip", "pydoc_data", "site-packages", "__pycache__",
}  # fmt: skip
# In a sandbox, but not in the corpus: tables, and modules of which a copy hides elsewhere, be it frozen into the
# interpreter, vendored in popular packages (setuptools, typing_extensions, …) or kept as data in the bytecode.
UNSCORED = {
    "encodings", "importlib", "distutils", "lib2to3", "tomllib",
    "tarfile.py", "typing.py", "zipfile.py", "contextlib.py", "heapq.py", "tokenize.py", "doctest.py", "pickletools.py",
    "abc.py", "codecs.py", "io.py", "_collections_abc.py", "_sitebuiltins.py", "genericpath.py", "ntpath.py",
    "posixpath.py", "os.py", "site.py", "stat.py", "runpy.py", "__hello__.py", "__phello__",
}  # fmt: skip
SMALLEST = 512  # bytes; below it a file is little more than a licence line
REVEALING = 8  # long lines of held-out text that another file may not share


def stdlib_dir() -> Path:
    """The standard library of the interpreter that runs this."""
    return Path(sysconfig.get_path("stdlib")).resolve()


def stdlib_files(root: Path) -> dict[str, str]:
    """Every .py file of a standard library by relative path -> its split, or "unscored" for those without one."""
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if ABSENT.intersection(parts) or parts[0].startswith("config-"):
            continue
        content = path.read_bytes()
        unscored = parts[0] in UNSCORED or parts[0].startswith("_sysconfigdata") or len(content) < SMALLEST
        found["/".join(parts)] = "unscored" if unscored else split_of(content)
    return found


def stdlib_documents(root: Path, files: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """(split, content) of every scored file, each content once, in an order that their hashes decide."""
    contents = {(root / name).read_bytes(): split for name, split in files.items() if split != "unscored"}
    for content in sorted(contents, key=lambda content: hashlib.sha256(content).digest()):
        yield contents[content], content


def write_shadow(root: Path, files: dict[str, str], shadow: Path) -> None:
    """Write a standard library that works and holds none of the held-out text.

    Sources of the training split (and unscored ones) are copied and compiled beforehand; held-out modules are there as
    bytecode without docstrings, lines and columns. Compiled files carry no time stamps: a bind or a copy does not make
    them stale.
    """
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    tag = sys.implementation.cache_tag
    for name, split in files.items():
        source, copy = root / name, shadow / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if split in ("train", "unscored"):
            shutil.copyfile(source, copy)
            compiled = copy.parent / "__pycache__" / f"{copy.stem}.{tag}.pyc"
        else:
            compiled = copy.with_suffix(".pyc")
        try:
            if split in ("train", "unscored"):
                py_compile.compile(str(source), str(compiled), name, True, 0, unchecked)
            else:
                code = compile(source.read_bytes(), name, "exec", dont_inherit=True, optimize=2)
                header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)
                compiled.write_bytes(header + marshal.dumps(without_positions(code)))
        except (py_compile.PyCompileError, SyntaxError, UnicodeDecodeError, ValueError):
            continue  # a few files are templates, not modules
    for mountpoint in ("lib-dynload", "site-packages"):
        (shadow / mountpoint).mkdir(exist_ok=True)


def without_positions(code: CodeType) -> CodeType:
    """The same code without line and column tables, which would tell where in the source each name stood."""
    constants = tuple(without_positions(c) if isinstance(c, CodeType) else c for c in code.co_consts)
    return code.replace(co_consts=constants, co_linetable=b"", co_firstlineno=1)


def packages() -> set[Path]:
    """Folders of installed packages that this interpreter imports from."""
    return {Path(entry).resolve() for entry in sys.path if entry.endswith("-packages")}


def copies_elsewhere(places: Iterable[Path], heldout: set[bytes]) -> Iterator[Path]:
    """Everything below `places` that gives held-out text away: other standard libraries, as whole folders, and
    single .py files (with their compiled siblings) that share REVEALING lines or more with `heldout`.

    Packages that this interpreter imports from are left alone.
    """
    for place in places:
        for name, folders, files in os.walk(place):
            folder = Path(name)
            if folder in packages():
                folders.clear()
                continue
            if {"argparse.py", "pickletools.py"} <= set(files):
                folders.clear()
                yield folder
                continue
            for file in files:
                if file.endswith(".py"):
                    try:
                        lines = (folder / file).read_bytes().split(b"\n")
                    except OSError:
                        continue
                    if len(heldout.intersection(line.strip() for line in lines)) >= REVEALING:
                        yield folder / file
                        if (folder / "__pycache__").is_dir():
                            yield folder / "__pycache__"


def telling_lines(documents: Iterable[tuple[str, bytes]]) -> set[bytes]:
    """Long lines that are in the held-out text and not in the training text, from (split, content)."""
    lines: dict[str, set[bytes]] = {"train": set(), "val": set(), "sealed": set()}
    for split, content in documents:
        lines[split].update(line for line in map(bytes.strip, content.split(b"\n")) if len(line) >= 40)
    return (lines["val"] | lines["sealed"]) - lines["train"]


def hidden_here(root: Path, heldout: set[bytes]) -> dict[str, str]:
    """`stdlib_files` for data that another interpreter's library gave: a file of this one that gives some of its
    held-out text away is held out too, whatever its own hash says."""
    files = stdlib_files(root)
    for name, split in files.items():
        if split == "train":
            lines = (root / name).read_bytes().split(b"\n")
            if len(heldout.intersection(map(bytes.strip, lines))) >= REVEALING:
                files[name] = "val"
    return files


def stdlib_overlay(root: Path, files: dict[str, str], heldout: set[bytes], target: Path) -> list[list[str]]:
    """Write the shadow below `target` and return the binds that hide the held-out text from a sandbox.

    The packages of the interpreter that runs this stay visible: it could not work without them.
    """
    write_shadow(root, files, target / "stdlib")
    (target / "empty").mkdir()
    (target / "empty.py").touch()
    binds = [[str(root), "stdlib"]]
    if (root / "lib-dynload").is_dir():
        binds.append([str(root / "lib-dynload")] * 2)
    if root / "site-packages" in packages():  # not in a virtual environment: packages are beside the library
        binds.append([str(root / "site-packages")] * 2)
    for copy in sorted(set(copies_elsewhere((Path("/usr"), Path("/opt")), heldout))):
        if copy != root and root not in copy.parents:
            binds.append([str(copy), "empty" if copy.is_dir() else "empty.py"])
    return binds


# -----------------------------------------------------------------------------------------------------------
# 2. Any text dataset of the Hub, at a pinned revision.


def hub_shards(dataset: str, cache: Path) -> list[Path]:
    """Draw HUB_BYTES of text from "owner/name@revision" and return the cached shards, one JSON string a line.

    Raises SystemExit with one line that says what failed and how to mend it.
    """
    name, _, revision = dataset.partition("@")
    if not revision:
        raise SystemExit(f"prepare: AUTOLAB_DATASET={dataset!r} has no revision; write owner/name@commit")
    cache.mkdir(parents=True, exist_ok=True)
    complete = cache / "complete"
    if complete.exists():
        return sorted(cache.glob("*.jsonl"))
    try:
        from datasets import load_dataset
    except ImportError:
        raise SystemExit("prepare: to read from the Hub, `pip install datasets`; it is missing") from None
    shards = sorted(cache.glob("*.jsonl"))
    taken = sum(shard.stat().st_size for shard in shards)
    seen = sum(shard.read_bytes().count(b"\n") for shard in shards)
    try:
        rows = iter(load_dataset(name, revision=revision, split="train", streaming=True).skip(seen))
        while taken < HUB_BYTES:
            lines, size = [], 0
            for row in rows:
                if "text" not in row:
                    raise SystemExit(f"prepare: {dataset} has no column 'text' (it has: {', '.join(row)})")
                lines.append(json.dumps(row["text"]) + "\n")
                size += len(lines[-1])
                if size >= HUB_SHARD_BYTES:
                    break
            if not lines:
                break
            shards.append(cache / f"{len(shards):05d}.jsonl")
            write_atomically(shards[-1], "".join(lines).encode())
            taken += size
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise SystemExit(
            f"prepare: cannot read {dataset} from the Hugging Face Hub ({reason}); connect to the network, "
            "set HF_TOKEN if it is gated, or choose another with AUTOLAB_DATASET=owner/name@commit"
        ) from None
    complete.touch()
    return shards


def hub_documents(shards: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """(split, content) of every document of the cached shards; a text seen twice is on one side by its hash."""
    for shard in shards:
        with shard.open("rb") as lines:
            for line in lines:
                content = json.loads(line).encode("utf-8", "replace")
                yield split_of(content, HUB_SHARES), content + b"\n"


# -----------------------------------------------------------------------------------------------------------
# 3. Tokenizers: bytes, or a byte-pair encoding trained once.


class Bytes:
    """The trivial tokenizer: a token is a byte."""

    def encode(self, text: bytes) -> list[int]:
        return list(text)

    def decode(self, tokens: Sequence[int]) -> bytes:
        import numpy as np

        return np.asarray(tokens, dtype=np.uint8).tobytes()

    def token_bytes(self) -> list[int]:
        """Bytes of text that each token stands for."""
        return [1] * 256


class BPE:
    """Byte-pair encoding: merges learnt by rustbpe, applied by tiktoken, kept in a JSON file."""

    def __init__(self, path: Path) -> None:
        import tiktoken

        kept = json.loads(path.read_text())
        self.ranks = {bytes.fromhex(token): rank for rank, token in enumerate(kept["tokens"])}
        self.encoding = tiktoken.Encoding(
            "autolab", pat_str=kept["pattern"], mergeable_ranks=self.ranks, special_tokens={}
        )

    @staticmethod
    def train(texts: Iterable[str], vocab: int, path: Path) -> None:
        """Learn `vocab` tokens from texts and write them to `path`."""
        import rustbpe

        learner = rustbpe.Tokenizer()
        learner.train_from_iterator(iter(texts), vocab, pattern=BPE_PATTERN)
        ranks = sorted((rank, bytes(token)) for token, rank in learner.get_mergeable_ranks())
        tokens = [token.hex() for _, token in ranks]
        write_atomically(path, json.dumps({"pattern": BPE_PATTERN, "tokens": tokens}).encode())

    def encode(self, text: bytes) -> list[int]:
        return self.encoding.encode_ordinary(text.decode("utf-8", "replace"))

    def decode(self, tokens: Sequence[int]) -> bytes:
        return self.encoding.decode_bytes([int(token) for token in tokens])

    def token_bytes(self) -> list[int]:
        """Bytes of text that each token stands for."""
        return [len(token) for token in sorted(self.ranks, key=self.ranks.__getitem__)]


def load_tokenizer(folder: Path) -> Bytes | BPE:
    """The tokenizer that the files of `folder` (train/ or heldout/) were cut with."""
    path = folder / "tokenizer.json"
    return BPE(path) if path.exists() else Bytes()


def write_tokens(documents: Callable[[], Iterable[tuple[str, bytes]]], vocab: int, target: Path) -> None:
    """Write train/ and heldout/ below `target` from a function that yields (split, content)."""
    import numpy as np

    folders = {"train": target / "train", "val": target / "heldout", "sealed": target / "heldout"}
    for folder in set(folders.values()):
        folder.mkdir(parents=True)
    if vocab > 256:
        BPE.train(_sample(documents()), vocab, target / "train" / "tokenizer.json")
        shutil.copyfile(target / "train" / "tokenizer.json", target / "heldout" / "tokenizer.json")
    tokenizer = load_tokenizer(target / "train")
    widths = np.array(tokenizer.token_bytes(), dtype=np.int64)
    dtype = np.dtype(np.uint8 if len(widths) <= 256 else np.uint16 if len(widths) <= 65536 else np.uint32)
    tokens, size = dict.fromkeys(folders, 0), dict.fromkeys(folders, 0)
    files = {split: (folder / f"{split}.bin").open("wb") for split, folder in folders.items()}
    for split, content in documents():
        ids = np.asarray(tokenizer.encode(content), dtype=dtype)
        files[split].write(ids.tobytes())
        tokens[split] += len(ids)
        size[split] += int(widths[ids].sum())
    for file in files.values():
        file.close()
    for folder, splits in (("train", ["train"]), ("heldout", ["val", "sealed"])):
        meta = {
            "dataset": DATASET,
            "vocab": len(widths),
            "dtype": dtype.name,
            "context": CONTEXT,
            "tokens": {split: tokens[split] for split in splits},
            "bytes": {split: size[split] for split in splits},
        }
        (target / folder / "meta.json").write_text(json.dumps(meta, indent=1))


def _sample(documents: Iterable[tuple[str, bytes]]) -> Iterator[str]:
    """Training text for the tokenizer, up to BPE_SAMPLE_BYTES."""
    left = BPE_SAMPLE_BYTES
    for split, content in documents:
        if split == "train":
            yield content.decode("utf-8", "replace")
            left -= len(content)
            if left <= 0:
                return


# -----------------------------------------------------------------------------------------------------------
# 4. Building, once.


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old content or the new, never half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(temporary).replace(path)


def sha256_of(path: Path) -> str:
    """Hash of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp() -> dict[str, str]:
    """What the data depends on: this file, the profile, the dataset and the interpreter."""
    code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    python = f"{sys.version} {stdlib_dir()}"
    return {"code": code, "profile": PROFILE, "dataset": DATASET, "python": python}


def is_ready(target: Path) -> bool:
    """Whether `target` holds this very data, whole. Small files are hashed; large ones only weighed."""
    try:
        if json.loads((target / "stamp.json").read_text()) != stamp():
            return False
        json.loads((target / "overlay.json").read_text())
        manifest = json.loads((target / "manifest.json").read_text())
        sizes = {name: (target / name).stat().st_size for name in manifest["files"]}
        small = [name for name, size in sizes.items() if size < 16_000_000]
        return sizes == manifest["sizes"] and all(
            sha256_of(target / name) == manifest["files"][name] for name in small
        )
    except (OSError, ValueError, KeyError):
        return False


def build(target: Path) -> None:
    """Build everything in a scratch folder, then move it into place."""
    target.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target, prefix=".building-"))
    try:
        overlay: list[list[str]] = []
        if DATASET == "python-stdlib":
            root = stdlib_dir()
            files = stdlib_files(root)
            write_tokens(lambda: stdlib_documents(root, files), VOCAB, scratch)
            overlay = stdlib_overlay(root, files, telling_lines(stdlib_documents(root, files)), scratch)
        else:
            cache = Path(os.environ.get("AUTOLAB_CACHE") or Path.home() / ".cache" / "autolab")
            shards = hub_shards(DATASET, cache / DATASET.replace("/", "--"))
            write_tokens(lambda: hub_documents(shards), VOCAB, scratch)
        (scratch / "overlay.json").write_text(json.dumps(overlay, indent=1))
        data = sorted(path for folder in ("train", "heldout") for path in (scratch / folder).iterdir())
        manifest = {
            "dataset": DATASET,
            "code": stamp()["code"],
            "files": {str(path.relative_to(scratch)): sha256_of(path) for path in data},
            "sizes": {str(path.relative_to(scratch)): path.stat().st_size for path in data},
        }
        (scratch / "manifest.json").write_text(json.dumps(manifest, indent=1))
        put(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def put(scratch: Path, target: Path) -> None:
    """Move a scratch folder's content into place. The manifest comes late and the stamp, which makes it valid, last."""
    for name in ("stamp.json", "manifest.json"):
        (target / name).unlink(missing_ok=True)
    old = scratch / ".old"
    old.mkdir()
    for path in sorted(scratch.iterdir(), key=lambda path: path.name == "manifest.json"):
        if path != old:
            if (target / path.name).exists():
                (target / path.name).rename(old / path.name)
            path.rename(target / path.name)
    write_atomically(target / "stamp.json", json.dumps(stamp()).encode())


def adopt(target: Path) -> bool:
    """Take data that is there already instead of building it: fetched into `target` from another machine, or in a
    folder beside it, made for another interpreter. Says whether there was some.

    Only what this very code has made, and only if every file is what its manifest says. Raises SystemExit that names a
    file of `target` that is not. What hides the held-out text from a sandbox belongs to a machine and is made anew.
    """
    if (files := made_alike(target)) is not None:
        wrong = next(changed(target, files), None)
        if wrong is not None and DATASET == "python-stdlib":
            return False  # it is quickly made anew
        if wrong is not None:
            raise SystemExit(
                f"prepare: {wrong} was changed: it is not what manifest.json says; delete {target} to make it anew"
            )
        copy_data(target, [], target)
        return True
    if DATASET == "python-stdlib":
        return False  # another interpreter's library would be other data, under another name
    for folder in sorted(target.parent.glob("*")):
        files = made_alike(folder)
        if files is not None and not any(changed(folder, files)):
            copy_data(folder, list(files), target)
            return True
    return False


def made_alike(folder: Path) -> dict[str, str] | None:
    """The files of a folder and their hashes, if its manifest is of this dataset and this code."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        alike = (manifest["dataset"], manifest["code"]) == (DATASET, stamp()["code"])
        return manifest["files"] if alike else None
    except (OSError, ValueError, KeyError):
        return None


def changed(folder: Path, files: dict[str, str]) -> Iterator[str]:
    """The files that are missing, or not what their hashes say."""
    for name, digest in files.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != digest:
            yield name


def copy_data(folder: Path, files: list[str], target: Path) -> None:
    """Copy checked data from a folder into `target`, with an overlay of this machine."""
    target.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target, prefix=".building-"))
    try:
        for name in [*files, "manifest.json"]:
            (scratch / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / name, scratch / name)
        overlay: list[list[str]] = []
        if DATASET == "python-stdlib":
            bins = {"train": "train/train.bin", "val": "heldout/val.bin", "sealed": "heldout/sealed.bin"}
            heldout = telling_lines((split, (folder / path).read_bytes()) for split, path in bins.items())
            root = stdlib_dir()
            overlay = stdlib_overlay(root, hidden_here(root, heldout), heldout, scratch)
        (scratch / "overlay.json").write_text(json.dumps(overlay, indent=1))
        put(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


# -----------------------------------------------------------------------------------------------------------
# 5. Loader.


class Batches:
    """Random windows of the training text, the same for the same seed.

    `vocab` is the size of the vocabulary. Raises SystemExit when there is no data and none may be made.
    """

    def __init__(self, batch: int, device: str = "cpu") -> None:
        import numpy as np

        folder = data_dir() / "train"
        if not (folder / "meta.json").exists():
            if os.environ.get("AUTOLAB_DATA"):
                raise SystemExit(
                    f"prepare: no data in {folder}; run `python prepare.py` with this AUTOLAB_DATA"
                )
            build(data_dir())
        meta = json.loads((folder / "meta.json").read_text())
        self.vocab: int = meta["vocab"]
        self._tokens = np.memmap(folder / "train.bin", dtype=meta["dtype"], mode="r")
        self._batch, self._device = batch, device
        self._random = np.random.default_rng(seed())
        self._offsets = np.arange(CONTEXT + 1)

    def next(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(inputs, targets), each int64 [batch, CONTEXT]; targets are the inputs one token later."""
        import torch

        starts = self._random.integers(0, len(self._tokens) - CONTEXT, self._batch)
        windows = torch.from_numpy(self._tokens[starts[:, None] + self._offsets].astype("int64"))
        if self._device == "cuda":
            windows = windows.pin_memory().to(self._device, non_blocking=True)
        elif self._device != "cpu":
            windows = windows.to(self._device)
        return windows[:, :-1], windows[:, 1:]


# -----------------------------------------------------------------------------------------------------------
# 6. Budget clock.


def _wall_since_start(started: float = time.time()) -> float:
    """Wall seconds since this process began, its imports included where the system tells."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return time.time() - started


class Clock:
    """How much of the budget is spent. The recipe reports tokens; the runner, not this, enforces the limits.

    Budgets: AUTOLAB_TOKENS, AUTOLAB_CPU_SECONDS (of this process, imports included) or AUTOLAB_WALL_SECONDS.
    Seconds are read in ticks of 1/256 of the budget, and only when tokens are spent; the clock records after how many
    tokens each tick came. That record, the pace, is all that a loaded or a quiet machine can change: replaying it
    (AUTOLAB_PACE) with the same seed repeats a run to the last bit, however busy the machine is.
    """

    TICKS = 256

    def __init__(self) -> None:
        self._mode, self._limit = self._budget()
        self._replay: list[int] | None = None
        self._last = 0  # tokens at which a replay ends
        if pace := os.environ.get("AUTOLAB_PACE"):
            recorded = json.loads(Path(pace).read_text())
            self._replay, self._last, self._mode = recorded["pace"], recorded["tokens"], recorded["mode"]
            if self._mode == "tokens":
                self._replay, self._limit = None, float(recorded["limit"])
        self.tokens = 0
        self.steps = 0
        self._tick = 0
        self._pace: list[int] = []  # _pace[k]: tokens spent when tick k + 1 was first seen
        self._read: Callable[[], float] = time.process_time if self._mode == "cpu" else _wall_since_start
        self._advance()

    @staticmethod
    def _budget() -> tuple[str, float]:
        given = [(mode, os.environ[f"AUTOLAB_{name}"]) for mode, name in
                 (("tokens", "TOKENS"), ("cpu", "CPU_SECONDS"), ("wall", "WALL_SECONDS"))
                 if os.environ.get(f"AUTOLAB_{name}")]  # fmt: skip
        mode, limit = given[0] if given else SETTINGS[PROFILE]["budget"]
        if float(limit) <= 0:
            raise SystemExit(f"prepare: the budget must be above zero, not {limit} ({mode})")
        return mode, float(limit)

    def __str__(self) -> str:
        unit = {"tokens": "tokens", "cpu": "CPU seconds", "wall": "wall seconds"}[self._mode]
        return f"{self._limit:g} {unit}" + (" (replayed)" if self._replay is not None else "")

    def progress(self) -> float:
        """Share of the budget that is spent, in [0, 1]. Changes only when tokens are spent."""
        if self._mode == "tokens":
            return min(1.0, self.tokens / self._limit)
        return self._tick / self.TICKS

    def done(self) -> bool:
        """Whether the budget is spent."""
        return self.progress() >= 1.0 or (self._replay is not None and self.tokens >= self._last > 0)

    def spend(self, tokens: int) -> None:
        """Report one step of training on so many tokens."""
        if self.done():
            return
        self.tokens += int(tokens)
        self.steps += 1
        before = self._tick
        self._advance()
        if self.done() or (self._tick // 16 > before // 16):
            self.write()

    def _advance(self) -> None:
        if self._mode == "tokens":
            return
        if self._replay is not None:
            tick = sum(1 for tokens in self._replay[self._tick :] if tokens <= self.tokens) + self._tick
        else:
            tick = min(self.TICKS, int(self._read() / self._limit * self.TICKS))
        self._pace += [self.tokens] * (tick - self._tick)
        self._tick = max(tick, self._tick)

    def write(self) -> None:
        """Leave the record in AUTOLAB_CLOCK, if the lab asked for one."""
        if not (path := os.environ.get("AUTOLAB_CLOCK")):
            return
        budget = {"mode": self._mode, "limit": self._limit}
        record = {**budget, "tokens": self.tokens, "steps": self.steps, "pace": self._pace}
        content = json.dumps(record).encode()
        try:
            write_atomically(Path(path), content)
        except OSError:  # a bound file in a read-only folder: it can be written, not replaced
            Path(path).write_bytes(content)


def main() -> None:
    target = data_dir()
    if is_ready(target):
        print(f"data is ready in {target}")
        return
    if adopt(target):
        print(f"{DATASET}: made elsewhere, every file is what its manifest says; {target}")
        return
    started = time.time()
    build(target)
    held = json.loads((target / "heldout" / "meta.json").read_text())
    train = json.loads((target / "train" / "meta.json").read_text())
    sizes = ", ".join(f"{split} {size:,}" for split, size in {**train["bytes"], **held["bytes"]}.items())
    print(f"{DATASET}: {sizes} bytes, vocabulary {train['vocab']}; {target}, {time.time() - started:.1f} s")


if __name__ == "__main__":
    main()
