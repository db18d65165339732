"""The router and the swarm: broad first, a team when that stops paying, and a bandit that learns what pays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from collaborating import Play

from autolab.collaboration.common.bandit import Bandit
from autolab.ledger.records import Measurement, Status


def opened(play: Play) -> int:
    number = play.open()
    assert number is not None
    return number


def part_of(play: Play, number: int) -> str:
    return play.asked[number].round.partition(":")[0]


# swarm -------------------------------------------------------------------------------------------------


def test_a_swarm_gives_each_surface_its_turn_and_then_a_generalist_is_free(tmp_path: Path) -> None:
    play = Play(tmp_path, "swarm")
    asked = [play.asked[opened(play)] for _ in range(6)]
    assert [one.surface for one in asked] == [
        "architecture",
        "optimizer",
        "systems",
        "loss",
        "",
        "architecture",
    ]
    assert [one.role for one in asked[3:5]] == ["specialist", "worker"]
    assert {one.parent for one in asked} == {None}, "the archive chooses"


def test_a_surface_without_a_specialist_gets_a_worker(tmp_path: Path) -> None:
    play = Play(tmp_path, "swarm", surfaces="{packing: x}")
    assert play.asked[opened(play)].role == "worker"


def test_the_generic_control_has_neither_surfaces_nor_specialists(tmp_path: Path) -> None:
    play = Play(tmp_path, "swarm", generic=True)
    assert {(play.asked[opened(play)].role, play.asked[opened(play)].surface) for _ in range(4)} == {
        ("worker", "")
    }


# the bandit --------------------------------------------------------------------------------------------


def shares(bandit: Bandit, kind: str, names: list[str], draws: int = 400) -> Counter[str]:
    rng = np.random.default_rng(0)
    return Counter(bandit.ranked(kind, names, rng)[0] for _ in range(draws))


def test_what_brings_gain_is_chosen_more_and_the_rest_still_now_and_then() -> None:
    bandit = Bandit()
    for trial in range(40):
        bandit.learn({"surface": ["good" if trial % 2 else "bad"]}, 0.01 if trial % 8 == 1 else 0.0, 0.0, 1)
    chosen = shares(bandit, "surface", ["good", "bad"])
    assert chosen["good"] > 300 and chosen["bad"] > 0


def test_of_two_that_gain_as_much_the_cheaper_one_is_chosen() -> None:
    bandit = Bandit()
    for trial in range(60):
        model = "large" if trial % 2 else "small"
        bandit.learn({"model": [model]}, 1.0 if trial % 6 < 2 else 0.0, 3.0 if model == "large" else 0.3, 1)
    assert shares(bandit, "model", ["large", "small"])["small"] > 380
    assert bandit.posterior("model", "small")[1] > bandit.posterior("model", "large")[1]


def test_what_was_never_tried_is_tried_soon() -> None:
    bandit = Bandit()
    for _ in range(20):
        bandit.learn({"surface": ["known"]}, 0.0, 0.0, 1)
    assert shares(bandit, "surface", ["known", "new"])["new"] > 350


def test_what_fails_at_once_and_for_nothing_does_not_stay_promising() -> None:
    bandit, rng, chosen = Bandit(), np.random.default_rng(1), Counter[str]()
    for _ in range(300):
        (model, _) = bandit.ranked("model", ["dead", "alive"], rng)
        gain = 1.0 if model == "alive" and chosen["alive"] % 8 == 0 else 0.0
        bandit.learn({"model": [model]}, gain, 0.0 if model == "dead" else 1.0, 1)
        chosen[model] += 1
    assert chosen["alive"] > 3 * chosen["dead"] > 0


def test_the_unit_of_gain_does_not_matter() -> None:
    small, large = Bandit(), Bandit()
    for trial in range(12):
        gain = 1.0 if trial % 3 == 0 else 0.0
        small.learn({"surface": ["a", "b"][: 1 + trial % 2]}, gain, 0.0, 1)
        large.learn({"surface": ["a", "b"][: 1 + trial % 2]}, gain * 1e6, 0.0, 1)
    assert small.posterior("surface", "b") == pytest.approx(large.posterior("surface", "b"))


# the router --------------------------------------------------------------------------------------------


def test_it_starts_broad(tmp_path: Path) -> None:
    play = Play(tmp_path, "routed", agents=4, surfaces="{loss: x, data: y}")
    parts = Counter(part_of(play, opened(play)) for _ in range(40))
    assert set(parts) == {"swarm", "subagents"}


def test_a_plateau_brings_a_team_and_a_promotion_ends_it(tmp_path: Path) -> None:
    play = Play(tmp_path, "routed", agents=4, surfaces="{loss: x, data: y}")
    for _ in range(11):
        play.run(opened(play), 11.0)
    assert "team" not in {part_of(play, number) for number in play.asked}
    for _ in range(20):
        play.run(opened(play), 11.0)
    assert "team" in {part_of(play, number) for number in play.asked}
    play.run(opened(play), 9.0, promoted=True)
    before = len(play.asked)
    for _ in range(10):
        play.run(opened(play), 11.0)
    assert "team" not in {part_of(play, number) for number in list(play.asked)[before:]}


def test_a_structural_surface_may_bring_a_team_at_once(tmp_path: Path) -> None:
    play = Play(tmp_path, "routed", agents=4, surfaces="{architecture: x}")
    for _ in range(30):
        play.run(opened(play), 11.0)
    assert "team" in {part_of(play, number) for number in list(play.asked)[:12]}


def test_a_long_budget_makes_a_team_one_of_the_choices_from_the_start(tmp_path: Path) -> None:
    play = Play(tmp_path, "routed", surfaces="{loss: x}")
    budget = play.setting.task.budget.model_copy(update={"tokens": None, "cpu_seconds": 900.0})
    play.setting = play.setting.__class__(
        **{**vars(play.setting), "task": play.setting.task.model_copy(update={"budget": budget})}
    )
    play.collaboration = play.again()
    assert "team" in {part_of(play, opened(play)) for _ in range(12)}


def test_a_round_that_was_begun_is_finished_before_anything_else(tmp_path: Path) -> None:
    play = Play(tmp_path, "routed", agents=4)
    while part_of(play, opened(play)) != "subagents":
        pass
    assert [part_of(play, opened(play)) for _ in range(3)] == 3 * ["subagents"]


def test_a_merge_and_a_repair_come_first(tmp_path: Path) -> None:
    play = Play(tmp_path, "routed", agents=2, surfaces="{architecture: x, optimizer: y, systems: z}")
    for _ in range(60):
        number = opened(play)
        name, part = part_of(play, number), play.asked[number].part
        if name == "team" and part == "draft":
            play.run(number, status=Status.CRASH)
            following = play.collaboration.assign()
            assert following is not None and following.part == "repair" and following.of == (number,)
        else:
            play.run(number, 9.0 if name == "subagents" else 11.0)
    kinds = {(part_of(play, number), asked.part) for number, asked in play.asked.items()}
    assert {("subagents", "merge"), ("team", "repair"), ("swarm", "")} <= kinds


def test_models_are_chosen_by_what_they_gain_for_their_money(tmp_path: Path) -> None:
    play = Play(tmp_path, "routed", models=("lab/large", "lab/small"), surfaces="{loss: x}")
    for place in range(80):
        number = opened(play)
        small = play.asked[number].model == "lab/small"
        play.propose(number)
        play.ledger.finish_measurement(
            Measurement(
                f"m-{number}",
                number,
                "screen",
                0,
                0,
                status=Status.OK,
                score=1.0,
                cost_usd=0.1 if small else 5,
            )
        )
        play.end(number, 9.0, promoted=place % 5 == 0)
    late = Counter(asked.model for asked in list(play.asked.values())[40:])
    assert late["lab/small"] > late["lab/large"]


def test_the_same_seed_routes_the_same_way_and_another_one_differently(tmp_path: Path) -> None:
    def routes(folder: str, seed: int) -> list[tuple[str, str]]:
        play = Play(tmp_path / folder, "routed", seed=seed)
        for place in range(30):
            play.run(opened(play), 9.0 if place % 7 == 0 else 11.0, promoted=place % 7 == 0)
        return [(part_of(play, number), play.asked[number].surface) for number in play.asked]

    assert routes("a", 0) == routes("b", 0) != routes("c", 1)
