"""Installs the skill pack into a project or for a user, upgrades it, and takes it out again."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from autolab import __version__
from autolab.errors import LabError
from autolab.pack import PACK
from autolab.pack.hosts import HOSTS, Pack, notes, render
from autolab.pack.placement import Changes, Contents, File, Place, Rules, bring, read_manifest, sha256


@dataclass(frozen=True)
class Report:
    """What an installation or a removal did, for people to read."""

    headline: str
    changes: Changes = field(default_factory=Changes)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """What is installed in a place, and which of its files differ from what was written there."""

    version: str
    hosts: tuple[str, ...]
    complete: bool
    edited: tuple[str, ...]
    missing: tuple[str, ...]


def install(
    target: Path,
    *,
    globally: bool = False,
    hosts: Iterable[str] = ("opencode",),
    source: Path = PACK,
) -> Report:
    """Bring the pack of this version into the project `target`, or `globally` for this user.

    Hosts that were installed there before are upgraded too, for they share the scripts. A second call changes
    nothing; a call after one that was killed completes it.

    Raises:
        LabError: `target` is no directory, or a file of the user's is in the way; nothing was changed then.
    """
    place = place_for(target, globally=globally)
    linked = _linked(place, source)
    asked = [host for host in hosts if not (linked and host == "opencode")]
    if linked and not asked:
        return Report(f"{place.opencode}: agents and skills are linked already, nothing to install")
    before = read_manifest(place)
    wanted = sorted({*asked, *(before.hosts if before else ())}, key=HOSTS.index)
    pack = Pack(source, place, linked)
    contents: dict[Path, File | Rules] = {}
    for host in wanted:
        contents.update(render(host, pack))
    changes = bring(place, contents, wanted, __version__)
    names = ", ".join(wanted)
    if changes or (before and before.version != __version__):
        done = "upgraded" if before and before.hosts == wanted else "installed"
        headline = f"{done} Autolab {__version__} for {names} in {place.root}"
    else:
        headline = f"Autolab {__version__} for {names} is in {place.root} already, nothing changed"
    return Report(
        headline,
        changes,
        (*_warnings(changes), *_twice(place, contents)),
        tuple(f"{host}: {note}" for host in asked for note in notes(host, pack)),
    )


def remove(
    target: Path, *, globally: bool = False, hosts: Iterable[str] | None = None, source: Path = PACK
) -> Report:
    """Take the pack of some hosts, or of all, out again; what its owner has edited stays and is named."""
    place = place_for(target, globally=globally)
    before = read_manifest(place)
    if before is None:
        bring(place, {}, (), __version__)  # the empty folders of a run that was killed
        return Report(f"Autolab is not installed in {place.root}, nothing to remove")
    going = set(before.hosts if hosts is None else hosts)
    left = [host for host in before.hosts if host not in going]
    if left == before.hosts and before.complete:
        names = ", ".join(sorted(going, key=HOSTS.index))
        return Report(f"Autolab for {names} is not installed in {place.root}, nothing to remove")
    contents: dict[Path, File | Rules] = {}
    for host in left:
        contents.update(render(host, Pack(source, place, _linked(place, source))))
    changes = bring(place, contents, left, __version__)
    names = ", ".join(sorted(going or HOSTS, key=HOSTS.index))
    kept = [f"{name} is not empty and stays" for name in changes.folders_kept]
    return Report(f"removed Autolab for {names} from {place.root}", changes, (*_warnings(changes), *kept))


def state(target: Path, *, globally: bool = False) -> State | None:
    """What is installed in `target`, or None."""
    place = place_for(target, globally=globally)
    manifest = read_manifest(place)
    if manifest is None:
        return None
    edited, missing = [], []
    for name, entry in manifest.files.items():
        path = place.path(name)
        if not path.is_file():
            missing.append(name)
        elif sha256(path.read_bytes()) not in (entry.sha256, *entry.also):
            edited.append(name)
    return State(manifest.version, tuple(manifest.hosts), manifest.complete, tuple(edited), tuple(missing))


def place_for(target: Path, *, globally: bool) -> Place:
    """A project, or this user's home with OpenCode's folder where XDG_CONFIG_HOME puts it."""
    if globally:
        home = Path.home()
        config = os.environ.get("XDG_CONFIG_HOME", "")
        folder = Path(config) if os.path.isabs(config) else home / ".config"
        return Place(home, folder / "opencode", globally=True)
    if not target.is_dir():
        raise LabError("there is no such directory", where=str(target), mend="create it first")
    root = target.resolve()
    return Place(root, root / ".opencode")


def _linked(place: Place, source: Path) -> bool:
    """Whether this is the lab's own repository, which shows its agents to OpenCode by links."""
    agents = place.opencode / "agents"
    if not agents.is_symlink():
        return False
    own = (place.root / "agents").resolve()
    return agents.resolve() in ((source / "agents").resolve(), own) and (agents / "lab.md").is_file()


def _warnings(changes: Changes) -> list[str]:
    offered = {name.removesuffix(".new") for name in changes.offered}
    lines = [
        f"{name}: you have edited it, so it stays; the new version is {name}.new" for name in sorted(offered)
    ]
    return lines + [
        f"{name}: you have edited it, so it stays as it is" for name in changes.kept if name not in offered
    ]


def _twice(place: Place, contents: Contents) -> list[str]:
    """Skills that OpenCode finds in a second folder too, with other text: it shows one of them, by chance."""
    ours = place.opencode / "skills"
    skills = {
        path.parent.name: file
        for path, file in contents.items()
        if path.parent.parent == ours and path.name == "SKILL.md"
    }
    personal = place_for(place.root, globally=True)
    homes = {place.root, personal.root}
    folders = [home / name / "skills" for home in homes for name in (".agents", ".claude", ".opencode")]
    lines = []
    for folder in sorted({*folders, personal.opencode / "skills"} - {ours}):
        others = [
            name
            for name, file in sorted(skills.items())
            if isinstance(file, File)
            and (folder / name / "SKILL.md").is_file()
            and (folder / name / "SKILL.md").read_bytes() != file.data
        ]
        if others:
            lines.append(
                f"{folder} has other versions of {', '.join(others)}; OpenCode shows either by chance:"
                " remove one of the two"
            )
    return lines
