"""What `autolab run` keeps at the lower end of a terminal, as lines that fit it: the master, slots, queue, budget.

Lines are `Text`: what agents wrote is never read as markup.
"""

from __future__ import annotations

from rich.text import Text

from autolab.cli.fitting import cut, padded
from autolab.cli.seen import Busy, Seen
from autolab.report.overview.words import duration

LABEL = 8  # columns
BAR, SHORT_BAR = 14, 8
ROOMY = 64  # columns from which slots tell what they try
DONE, TO_DO = "━", "─"
STATES = {"running": "green", "paused": "yellow"}


def rows_for_view(rows: int) -> int:
    """How many rows of a terminal the view may take: a third stays for what scrolls, and one is empty."""
    return max(2, rows - 1 - max(2, rows // 3))


def view(seen: Seen, width: int, height: int) -> list[Text]:
    """At most `height` lines of at most `width` columns: what matters most, if they are few."""
    master, queue, budget = _master(seen), _queue(seen), _budget(seen)
    room = height - 3
    if room < 1:
        return [_fitted(line, width) for line in (master, budget, queue)[:height]]
    slots = _slots(seen, width, max(1, room - (room > 3)))
    room -= len(slots)
    title = [_title(seen)] if room > 0 else []
    gain = [_labelled("gain", seen.master.gain)] if room > 1 and seen.master and seen.master.gain else []
    tally = [_tally(seen)] if room > 2 and seen.outcomes else []
    lines = [*title, master, *gain, *slots, queue, budget, *tally]
    return [_fitted(line, width) for line in lines]


def _fitted(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line


def _labelled(label: str, text: str, style: str = "") -> Text:
    return Text.assemble((f"{label:<{LABEL}}", "bold"), (text, style))


def _title(seen: Seen) -> Text:
    state = f"{seen.state} for {duration(seen.seconds)}" if seen.state == "running" else seen.state
    style = STATES.get(seen.state, "yellow")
    return Text.assemble((seen.campaign, "bold"), f"  {seen.task}  ", (state, style))


def _master(seen: Seen) -> Text:
    if seen.master is None:
        return _labelled("master", "none yet: the baseline comes first")
    return _labelled("master", f"{seen.master.score}, {seen.master.trial}", "green")


def _queue(seen: Seen) -> Text:
    said = [f"{seen.waiting} waiting", f"{seen.proposing} being proposed"]
    said += [f"{seen.judging} to be judged"] if seen.judging else []
    return _labelled("queue", ", ".join(said))


def _budget(seen: Seen) -> Text:
    limits = seen.limits
    said = [f"{seen.trials} trials" if limits.trials is None else f"{seen.trials} of {limits.trials} trials"]
    if seen.seconds_left is not None:
        said.append(f"{duration(seen.seconds_left)} left")
    if limits.max_usd is not None:
        said.append(f"${seen.dollars:.2f} of ${limits.max_usd:g}")
    elif seen.dollars:
        said.append(f"${seen.dollars:.2f}")
    if limits.patience is not None:
        said.append(f"{seen.fruitless} of {limits.patience} without a promotion")
    return _labelled("budget", ", ".join(said))


def _tally(seen: Seen) -> Text:
    counts = sorted(seen.outcomes.items(), key=lambda item: (-item[1], item[0]))
    return _labelled("so far", ", ".join(f"{count} {word}" for word, count in counts))


def _slots(seen: Seen, width: int, room: int) -> list[Text]:
    """A line for each slot; where there is no room for all, those at work first, and how many more there are."""
    busy = {one.slot: one for one in seen.busy}
    idle = max(0, seen.slots - len(busy))
    if seen.slots <= room:
        numbers = sorted({*range(seen.slots), *busy})[:room]
        return [_slot(number, busy.get(number), width) for number in numbers]
    shown = seen.busy[: room - 1]
    more = len(busy) - len(shown)
    rest = Text(f"and {more} more at work, {idle} idle", "bright_black")
    return [*(_slot(one.slot, one, width) for one in shown), rest]


def _slot(number: int, busy: Busy | None, width: int) -> Text:
    label = f"slot {number}" if width >= ROOMY else f"{number}"
    line = Text.assemble((f"{label:<{LABEL if width >= ROOMY else 3}}", "bold"))
    if busy is None:
        return line.append("idle", "bright_black")
    line.append(f"{busy.trial}  " if width >= ROOMY else f"{busy.trial[-4:]} ")
    line.append(f"{padded(busy.stage, 10)} ")
    line.append_text(_bar(busy.seconds / busy.expected, BAR if width >= ROOMY else SHORT_BAR))
    line.append(f" {duration(busy.seconds):>6}")
    used = line.cell_len + 2
    if used < width - 8:
        line.append("  " + cut(busy.about, width - used), "bright_black")
    return line


def _bar(share: float, width: int) -> Text:
    full = min(width, int(share * width))
    return Text.assemble((DONE * full, "cyan"), (TO_DO * (width - full), "bright_black"))
