"""Run a script in a forked process as the interpreter would have run it from its start.

Standard library only, and nothing from autolab: the sandboxed template imports this by path.
"""

from __future__ import annotations

import builtins
import os
import sys
from types import CodeType, ModuleType

TYPE_CHECKING = False  # as in typing, whose import would take long
if TYPE_CHECKING:
    import signal
    from typing import NoReturn
else:
    import _signal as signal

_kept: list[ModuleType] = []  # out of sight, but in use
_FLAGS = "IsSEBuOPq"  # options of the interpreter that take no word


class Command:
    """`python [options] script [words]`, the only kind of command that a warm process can take over."""

    def __init__(self, argv: list[str]) -> None:
        """Raises ValueError for another kind of command."""
        at = 1
        while at < len(argv) and argv[at].startswith("-"):
            if set(argv[at][1:]) - set(_FLAGS) or argv[at] == "-":
                raise ValueError(f"the option {argv[at]} of Python")
            at += 1
        if argv[0] != "python" or at == len(argv):
            raise ValueError("not `python`, options and a script")
        self.options, self.script, self.argv = argv[1:at], argv[at], argv[at:]


def load_code(path: str) -> CodeType:
    """A script, compiled as the interpreter does. Raises what it would."""
    with open(path, "rb", buffering=0) as file:
        return compile(file.readall(), path, "exec", dont_inherit=True)


def run(command: Command, folder: str, env: dict[str, str], code: CodeType | None = None) -> NoReturn:
    """Be the process of this command, in its working directory; `code` is the script, if it was compiled before."""
    status = 1
    try:
        os.chdir(folder)
        take_variables(env)
        if "numpy.random" in sys.modules:  # `random` does this itself
            sys.modules["numpy.random"].seed()
        _signals_of_a_start()
        status = _run_main(command, os.path.join(folder, command.script), code)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        # Not the interpreter's own end: taking a large process apart object by object takes longer than its work.
        os._exit(status)


def take_variables(env: dict[str, str]) -> None:
    """Have exactly these environment variables; what is there already costs nothing."""
    for name in [name for name in os.environ if name not in env]:
        del os.environ[name]
    for name, value in env.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def hide_engine() -> None:
    """No script finds this package among its modules; call it when everything is loaded."""
    names = [name for name in sys.modules if name == "execution" or name.startswith("execution.")]
    _kept.extend(sys.modules.pop(name) for name in names)


def _signals_of_a_start() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _run_main(command: Command, path: str, code: CodeType | None) -> int:
    main = ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=builtins)
    sys.modules["__main__"] = main
    sys.argv = list(command.argv)
    if not sys.flags.safe_path:
        sys.path.insert(0, os.path.dirname(path))
    status = 0
    try:
        exec(code or load_code(path), main.__dict__)
    except SystemExit as leaving:
        status = _exit_status(leaving)
    except BaseException as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        sys.excepthook(type(error), error, trace)
        status = 1
    return max(status, _finish())


def _exit_status(leaving: SystemExit) -> int:
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code & 0xFF
    print(leaving.code, file=sys.stderr)
    return 1


def _finish() -> int:
    """What the interpreter does at its end that others can see."""
    import atexit

    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            return 120
    return 0
