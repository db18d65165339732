"""Which programs an archive holds, against what it was told and against pyribs; and which it lets one branch from."""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from ribs.archives import CVTArchive, GridArchive

from autolab.search.archives import ARCHIVES, Archive, new_archive
from autolab.search.archives.auto import Auto
from autolab.search.archives.best import Best
from autolab.search.archives.clusters import Clusters, means, nearest
from autolab.search.archives.dns import DominatedNovelty, distances, dominated_novelty
from autolab.search.archives.grid import Grid
from autolab.search.archives.history import History

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
from archives_problems import PROBLEMS, Packing

Told = list[tuple[float, list[float]]]

anything = st.one_of(st.floats(-5, 5), st.floats(), st.sampled_from([0.0, 1e300, -1e300, 0.5]))
stories = st.lists(
    st.tuples(st.integers(-4, 4).map(float), st.lists(anything, min_size=2, max_size=2)),
    min_size=1,
    max_size=120,
)


def tell(archive: Archive, story: Told) -> None:
    for number, (objective, measures) in enumerate(story):
        archive.add(number + 1, objective, measures)


def random_story(count: int, seed: int = 0) -> Told:
    rng = np.random.default_rng(seed)
    return [(float(rng.normal()), rng.random(2).tolist()) for _ in range(count)]


def owners(archive: Grid | Clusters) -> NDArray[np.int64]:
    """The cell or niche of everything that was told, under today's bounds and niches."""
    unit = archive.history.unit
    return archive.cells_of(unit) if isinstance(archive, Grid) else nearest(unit, archive.centroids)


@pytest.mark.parametrize("kind", [Grid, Clusters])
@settings(max_examples=60, deadline=None)
@given(story=stories)
def test_an_elite_is_the_best_of_all_that_was_told_where_it_is_today(
    kind: type[Grid] | type[Clusters], story: Told
) -> None:
    archive = kind([None, None])
    tell(archive, story)
    owner, objective = owners(archive), archive.history.objective
    places = archive.places()
    assert sorted(owner[places]) == sorted(set(owner.tolist()))  # each that is not empty has one elite
    for place in places:
        assert objective[place] == objective[owner == owner[place]].max()


@settings(max_examples=60, deadline=None)
@given(story=stories)
def test_no_niche_is_empty_and_there_are_as_many_as_there_can_be(story: Told) -> None:
    archive = Clusters([None, None], niches=8)
    tell(archive, story)
    owner = owners(archive)
    assert set(owner.tolist()) == set(range(len(archive.centroids)))
    if len(story) <= 32:  # until then niches are made anew with every trial
        distinct = len(np.unique(archive.history.unit.round(6), axis=0))
        assert min(8, distinct) - 1 <= len(archive.centroids) <= 8


def test_no_cell_holds_a_program_of_another_cell_after_the_bounds_have_grown() -> None:
    archive = Grid([None], cells=4)
    for number, value in enumerate([0.0, 1.0, 2.0, 3.0]):
        archive.add(number + 1, 1.0, [value])
    assert len(archive.elites()) == 4
    archive.add(5, 0.0, [300.0])
    assert sorted(archive.elites()) == [4, 5]  # what was spread over four cells is in one
    assert archive.retrieve([2.0]) == 4 and archive.retrieve([150.0]) is None


def test_one_absurd_value_does_not_squeeze_the_others_together() -> None:
    archive = Grid([None], cells=10)
    for number in range(400):
        archive.add(number + 1, 0.0, [number % 100])
    archive.add(1000, 9.0, [1e12])
    for number in range(400):
        archive.add(2000 + number, 0.0, [number % 100])
    assert len(archive.elites()) == 10


@pytest.mark.parametrize("name", ARCHIVES)
@settings(max_examples=30, deadline=None)
@given(story=stories)
def test_the_best_program_is_always_an_elite(name: str, story: Told) -> None:
    archive = new_archive(name, [None, None])
    tell(archive, story)
    objective = [objective for objective, _ in story]
    assert max(objective) in {objective[number - 1] for number in archive.elites()}


@pytest.mark.parametrize("name", ARCHIVES)
def test_only_elites_are_sampled_and_the_same_generator_samples_the_same(name: str) -> None:
    archive = new_archive(name, [None, (0, 1)])
    assert archive.sample_elites(3, np.random.default_rng(0)) == []
    assert archive.retrieve([0.5, 0.5]) is None
    tell(archive, random_story(300))
    sampled = archive.sample_elites(50, np.random.default_rng(0), 64)
    assert len(sampled) == 50 and set(sampled) <= set(archive.elites())
    assert sampled == archive.sample_elites(50, np.random.default_rng(0), 64)
    assert archive.retrieve([0.5, 0.5]) in {None, *archive.elites()}


def test_a_grid_places_programs_where_pyribs_does() -> None:
    story = random_story(1000)
    ours = Grid([(0, 1), (0, 1)], cells=64)
    theirs = GridArchive(solution_dim=1, dims=[8, 8], ranges=[(0, 1), (0, 1)])
    tell(ours, story)
    theirs.add(np.arange(1, 1001)[:, None], [one for one, _ in story], [there for _, there in story])
    assert owners(ours).tolist() == theirs.index_of([there for _, there in story]).tolist()
    kept = theirs.data(["solution", "index"])
    assert sorted(ours.elites()) == sorted(int(one[0]) for one in kept["solution"])


def test_niches_hold_what_pyribs_holds_with_the_same_centroids() -> None:
    story = random_story(1000)
    ours = Clusters([(0, 1), (0, 1)])
    tell(ours, story)
    theirs = CVTArchive(solution_dim=1, centroids=ours.centroids, ranges=[(0, 1), (0, 1)])
    theirs.add(np.arange(1, 1001)[:, None], [one for one, _ in story], [there for _, there in story])
    assert owners(ours).tolist() == theirs.index_of([there for _, there in story]).tolist()
    kept = theirs.data(["solution"])
    assert sorted(ours.elites()) == sorted(int(one[0]) for one in kept["solution"])


def test_niches_go_where_programs_are() -> None:
    rng = np.random.default_rng(0)
    crowded = [(float(rng.normal()), (0.5 + 0.01 * rng.normal(size=2)).tolist()) for _ in range(500)]
    crowded += [(0.0, [0.0, 0.0]), (0.0, [1.0, 1.0])]
    grid, niches = Grid([(0, 1), (0, 1)]), Clusters([(0, 1), (0, 1)])
    tell(grid, crowded)
    tell(niches, crowded)
    assert len(grid.elites()) < 10 and len(niches.elites()) == 64


def test_lloyds_algorithm_leaves_no_point_nearer_to_another_centroid() -> None:
    points = np.random.default_rng(1).random((500, 3))
    centroids = points[:10]
    labels = nearest(points, centroids)
    assert (labels == distances(points, centroids).argmin(axis=1)).all()
    assert means(points, labels, 10)[3] == pytest.approx(points[labels == 3].mean(axis=0))


def test_dominated_novelty_is_the_distance_to_what_is_better() -> None:
    objective = np.array([3.0, 2.0, 1.0, 1.0])
    at = np.array([[0.0], [1.0], [3.0], [0.5]])
    worth = dominated_novelty(objective, distances(at, at), neighbours=2)
    assert worth.tolist() == [math.inf, 1.0, 2.5, 0.5]


def test_dns_keeps_what_it_would_keep_if_it_computed_everything_anew() -> None:
    story = random_story(300)
    archive = DominatedNovelty([None, None], places=16)
    kept: list[int] = []
    for place, (objective, measures) in enumerate(story):
        archive.add(place + 1, objective, measures)
        kept.append(place)
        unit, scores = archive.history.unit[kept], archive.history.objective[kept]
        if len(kept) > 16:
            kept.pop(int(np.argmin(dominated_novelty(scores, distances(unit, unit)))))
        assert sorted(archive.places()) == sorted(kept)


def test_of_equal_programs_the_newest_leads_across_a_plateau() -> None:
    archive = Best([])
    for number in (1, 2, 3):
        archive.add(number, 0.0, [])
    assert archive.elites() == [3]


def test_better_elites_are_chosen_more_often_and_barren_ones_less() -> None:
    archive = Grid([(0, 1)], cells=8)
    for number in range(8):
        archive.add(number, float(number), [number / 8])
    often = Counter(archive.sample_elites(4000, np.random.default_rng(0)))
    assert often[7] > often[5] > often[2]
    for _ in range(200):
        archive.add_failed(parent=7)
    assert Counter(archive.sample_elites(4000, np.random.default_rng(0)))[7] < often[7] / 3
    archive.add(9, 8.0, [0.99], parent=7)  # a better child: its parent is fruitful again
    assert archive.history.barren[7] == 0


def test_auto_climbs_while_that_pays_and_spreads_out_in_a_dead_end() -> None:
    archive = Auto([(0, 1), (0, 1)])
    rng = np.random.default_rng(0)
    for number in range(200):
        archive.add(number, float(number), rng.random(2).tolist(), parent=number - 1)
    assert archive.greed(1) == 1.0 and archive.greed(64) < 1.0
    assert set(archive.sample_elites(100, rng)) == {199}
    for number in range(200, 300):
        archive.add(number, float(rng.random()), rng.random(2).tolist(), parent=199)
    assert archive.greed(1) < 0.5
    assert len(set(archive.sample_elites(100, rng))) > 5
    archive.add(300, 250.0, [0.5, 0.5], parent=120)
    assert archive.greed(1) == 1.0  # somebody else found a way on


def test_polishing_is_no_progress() -> None:
    archive = Auto([(0, 1)])
    archive.add(0, 0.0, [0.5])
    archive.add(1, 1.0, [0.5], parent=0)
    for number in range(2, 100):
        archive.add(number, 1.0 + 1e-6 * number, [0.5], parent=number - 1)
    assert archive.greed(1) < 0.5


def test_bounds_that_nobody_declared_follow_what_was_seen() -> None:
    history = History([None, (0.0, 2.0)])
    history.append(1, 0.0, [10.0, 1.0])
    history.append(2, 0.0, [20.0, 5.0])
    history.append(3, 0.0, [15.0, math.nan])
    assert history.unit.tolist() == [[0.0, 0.5], [1.0, 1.0], [0.5, 0.5]]


# the benchmark's problems ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_is_a_function_of_its_seed(name: str) -> None:
    problem = PROBLEMS[name](3)
    one = problem.first(np.random.default_rng(3))
    score, measures = problem.evaluate(one)
    assert score is not None and all(0 <= value <= 1 for value in measures)
    again = PROBLEMS[name](3)
    assert again.evaluate(again.first(np.random.default_rng(3))) == (score, measures)
    child = problem.change(one, np.random.default_rng(0))
    assert (child != one).any() and (problem.first(np.random.default_rng(3)) == one).all()


def test_the_sum_of_radii_is_the_optimum_of_the_linear_programme() -> None:
    from scipy.optimize import linprog

    problem = Packing(0)
    one, other = np.triu_indices(26, 1)
    touch = np.zeros((len(one), 26))
    touch[np.arange(len(one)), one] = touch[np.arange(len(one)), other] = 1
    for seed in range(20):
        centres = problem.first(np.random.default_rng(seed)).reshape(26, 2)
        gap = np.hypot(*(centres[one] - centres[other]).T)
        wall = np.minimum(centres, 1 - centres).min(axis=1)
        best = linprog(-np.ones(26), A_ub=touch, b_ub=gap, bounds=np.stack([0 * wall, wall], axis=1))
        assert problem.evaluate(centres.ravel())[0] == pytest.approx(-best.fun, abs=1e-6)
