#!/bin/sh
""":"
# Read by sh down to the last exec and by Python from the next line of three quotes: somebody who is no agent
# of ours gets the ordinary shell at once, and agents the lab's own Python, whatever `python3` happens to be.
shell=${AUTOLAB_SHELL:-/bin/bash}
if [ -z "$AUTOLAB_ROLE" ] && [ -n "$AUTOLAB_TYPED" ]; then
    # Typed by the user at OpenCode's prompt, who expects aliases, as from OpenCode itself.
    shift
    rc=
    case $shell in
    */bash) rc='shopt -s expand_aliases; . ~/.bashrc' ;;
    */zsh) rc='. "${ZDOTDIR:-$HOME}/.zshrc"' ;;
    *) exec "$shell" -c "$1" ;;
    esac
    exec "$shell" -l -c "{ $rc; } >/dev/null 2>&1"'; cd -- "$2"; eval "$1"' opencode "$1" "$PWD"
fi
[ -n "$AUTOLAB_ROLE" ] || exec "$shell" "$@"
self=$(readlink -f "$0")
here=${self%/*}
if [ -x "$here/../.venv/bin/python" ] && [ -d "$here/../src/autolab" ]; then
    exec "$here/../.venv/bin/python" -I -S "$self" "$@"
fi
python=
for named in "$here/engine" "$here/../engine"; do
    [ -z "$python" ] && [ -f "$named" ] && read -r python <"$named"
done
command=$(command -v autolab)
if [ -z "$python" ] && [ -n "$command" ]; then
    read -r python <"$command"
    case $python in "#!"/*/python*) python=${python#??} ;; *) python= ;; esac
fi
[ -x "$python" ] || python=$(command -v python3)
exec "$python" -E "$self" "$@"
":"""

# The shell that OpenCode uses in a project with this pack. A command of one of the lab's agents (AUTOLAB_ROLE is
# set) runs in a sandbox that can read the lab and write one workspace; the pack's scripts, which may do more, run
# outside, each if the role's own rules allow it. Any other command is the ordinary shell's.
#
# Standard library only, and little of that: every command of every agent waits for this to start.

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as in typing, whose import takes time
if TYPE_CHECKING:
    from collections.abc import Sequence

    import bridge

HERE = os.path.dirname(os.path.realpath(__file__))
SECONDS = 180.0  # for one command; OpenCode's own limit is 120 unless the model asks for more
FILE_KB = 256 << 10  # no file that a command writes may grow larger
PROCESSES = 512
_SPECIAL = frozenset(";&|<>(){}[]*?~#$`\\!\n")  # what makes a command more than one program with arguments
_QUOTABLE = frozenset('$`"\\')  # what a backslash can protect between double quotes


class Stop(Exception):
    """The command cannot be run; the text is one line: what, why, next step."""


def main(argv: Sequence[str]) -> int:
    """Run the one command in `argv`, which is what OpenCode passes to any shell: -c, and the command."""
    role = os.environ.get("AUTOLAB_ROLE", "")
    if not role or os.environ.get("AUTOLAB_BRIDGE"):
        # Not an agent of ours, or one whose whole OpenCode is in a sandbox already.
        shell = os.environ.get("AUTOLAB_SHELL") or "/bin/bash"
        os.execv(shell, [shell, *argv])
    try:
        if "-c" not in argv[:-1]:
            raise Stop("an agent's shell runs single commands only (mend: give the command)")
        at = list(argv).index("-c") + 1
        _find_engine()
        return _run(role, argv[at])
    except Stop as reason:
        print(f"[refused] {reason}")
        return 1


def _find_engine() -> None:
    # What is imported below comes from the engine, never from among the scripts.
    sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder) != HERE]
    source = os.path.join(HERE, os.pardir, "src")
    if os.path.isdir(os.path.join(source, "autolab")):
        sys.path.insert(0, os.path.realpath(source))
    try:
        import autolab
    except ImportError:
        raise Stop(
            f"the lab's engine is not installed for {sys.executable}"
            " (mend: tell the user to install autolab and to run `autolab init --opencode` again)"
        ) from None
    # By file and not as autolab.harness.bridge: that would import what a whole campaign needs.
    sys.path.append(os.path.join(autolab.__path__[0], "harness"))


def _run(role: str, command: str) -> int:
    import bridge
    import confinement

    from autolab.execution.sandbox import SandboxError, available, find_bubblewrap

    try:
        cwd = os.path.realpath(os.getcwd())
    except FileNotFoundError:
        raise Stop("the current directory is gone (mend: work in the lab's root)") from None
    lab = os.path.realpath(os.environ.get("AUTOLAB_LAB") or cwd)
    session = os.environ.get("AUTOLAB_SESSION", "")
    trial = (confinement.owned(lab, session) or [""])[-1] if confinement.may_write(role) else ""
    seat = bridge.Seat(lab, role, session, trial)
    scripts = bridge.Scripts(HERE, allows=_allows)
    try:
        confinement.check_lab(lab)
        script = plain_script(command, lab)
        if script is not None:
            return _ended(scripts.run(seat, *script, cwd=cwd))
        if find_bubblewrap() is None:
            raise Stop(
                "without bubblewrap an agent's shell runs single scripts only, without pipes, redirection,"
                " expansion or other programs (mend: run the script alone; files are read and written with"
                " the file tools)"
            )
        code = _sandboxed(seat, scripts, command, cwd)
        if code == 1 and available()[0] == "none":
            raise Stop(f"the sandbox does not start: {available()[1]}")
        return code
    except (bridge.Refused, SandboxError) as reason:
        raise Stop(str(reason)) from None
    except OSError as error:
        raise Stop(f"the sandbox cannot be set up: {error} (mend: is there space in /tmp?)") from None
    finally:
        scripts.close()


def plain_script(command: str, lab: str) -> tuple[str, list[str]] | None:
    """(script, arguments) if a command is no more than one of the pack's scripts with literal arguments.

    Read as a shell would, but whatever a shell might treat in a special way outside of quotes means no.
    """
    words = _words(command)
    if not words:
        return None
    folder, name = os.path.split(words[0])
    if not _is_script(name):
        return None
    if folder not in ("scripts", "./scripts") and os.path.realpath(os.path.join(lab, folder)) != HERE:
        return None
    return name, words[1:]


def _words(command: str) -> list[str] | None:
    words: list[str] = []
    word: list[str] | None = None  # None: between two words
    quote = ""
    characters = iter(command.strip())
    for char in characters:
        if quote == "'" and char != "'":
            word.append(char)
        elif quote == '"' and char == "\\":
            follower = next(characters, "")
            if follower == "\n":
                continue
            word.append(follower if follower in _QUOTABLE else char + follower)
        elif quote == '"' and char in "$`":
            return None
        elif quote:
            if char == quote:
                quote = ""
            else:
                word.append(char)
        elif char in "'\"":
            quote = char
            word = [] if word is None else word
        elif char in _SPECIAL:
            return None
        elif char.isspace():
            if word is not None:
                words.append("".join(word))
            word = None
        else:
            word = [char] if word is None else [*word, char]
    if quote:
        return None
    return words if word is None else [*words, "".join(word)]


def _allows(role: str, command: str) -> bool:
    if sys.flags.no_site:
        import site

        site.main()  # the role files are YAML, and that package is in the environment's site-packages
    try:
        from autolab.pack.roles import allows_command
    except ImportError as error:
        import bridge

        raise bridge.Refused(
            f"the roles cannot be read: {error} (mend: tell the user to install autolab again)"
        ) from None
    return allows_command(role, command)


def _ended(answer: bridge.Answer) -> int:
    sys.stdout.buffer.write(answer.stdout.encode("utf-8", "surrogateescape"))
    sys.stdout.flush()
    sys.stderr.buffer.write(answer.stderr.encode("utf-8", "surrogateescape"))
    return answer.code


def _sandboxed(seat: bridge.Seat, scripts: bridge.Scripts, command: str, cwd: str) -> int:
    import signal
    import subprocess

    import bridge
    import confinement

    lab = seat.lab
    read_only, writable, hidden = confinement.shell_places(lab, seat.role, seat.session)
    if not (cwd + "/").startswith(lab + "/"):
        raise Stop(f"{cwd} lies outside the lab (mend: work in {lab})")
    if not (HERE + "/").startswith(lab + "/"):
        read_only.append(HERE)
    # As tempfile would, whose import takes longer than all that is done here.
    folder = f"/tmp/autolab-{os.urandom(8).hex()}"
    os.mkdir(folder, 0o700)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    process = None
    try:
        with bridge.Bridge(os.path.join(folder, "bridge"), seat, scripts):
            argv = confinement.confined(
                ["/bin/bash", "-c", _prelude(lab) + 'eval "$1"', "bash", command],
                folder=folder,
                environment=confinement.shell_environment(
                    lab, seat.role, seat.session, seat.trial, sys.executable
                ),
                cwd=cwd,
                read_only=[*read_only, (os.path.join(folder, "bridge"), confinement.BRIDGE)],
                writable=writable,
                hidden=hidden,
                special_files=False,
            )
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, env={})
            # Popen.wait with a timeout would look every 50 ms; this wakes up when the command has ended.
            signal.signal(signal.SIGALRM, _too_long)
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            code = process.wait()
            signal.setitimer(signal.ITIMER_REAL, 0)
        return code if code >= 0 else 128 - code
    finally:
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


def _too_long(*_: object) -> None:
    raise Stop(
        f"the command took longer than {SECONDS:.0f} s and was ended (mend: long work belongs into a trial;"
        " ask for its status)"
    )


def _prelude(lab: str) -> str:
    """Limits, and what makes `scripts/trial.py` work where the lab has no such folder."""
    lines = [f"ulimit -c 0 -f {FILE_KB}"]
    if tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) >= (5, 14):
        # Before that, processes outside the sandbox are counted too.
        lines.append(f"ulimit -u {PROCESSES}")
    if not os.path.exists(os.path.join(lab, "scripts", "trial.py")):
        lines += [f"scripts/{name}() {{ '{HERE}/{name}' \"$@\"; }}" for name in _scripts()]
    return "\n".join(lines) + "\n"


def _scripts() -> list[str]:
    return sorted(name for name in os.listdir(HERE) if _is_script(name) and name != "guard_shell.py")


def _is_script(name: str) -> bool:
    return name.endswith(".py") and name[:-3].isidentifier() and name.isascii() and name[0] != "_"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
