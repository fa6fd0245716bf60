"""The record: splits and metrics of others, and the page that shows what they gave."""

import dataclasses
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_logs import small_log

from benchmarks.accuracy.log import Log
from benchmarks.accuracy.problem import Problem, tasks_of
from benchmarks.accuracy.record import contexts, leaderboard, strong
from benchmarks.accuracy.record.held_out_users import METAREC, STATE, TANP
from benchmarks.accuracy.record.protocols import PROTOCOLS
from benchmarks.accuracy.record.released.checkout import TREE, Project
from benchmarks.accuracy.record.top_rated import drawn_positives, top_rated
from recmeta.errors import UserError
from recmeta.tasks.task_set import Ragged, Tasks


def by_hand(listed: list[float], k: int) -> tuple[float, float]:
    """Precision and average precision of a list of ratings, in the words of their papers."""
    left = sorted(listed, reverse=True)[:k]
    hits, total = 0, 0.0
    for place, rating in enumerate(listed[:k], 1):
        if rating in left:
            left.remove(rating)
            hits += 1
            total += hits / place
    return hits / k, total / k


def test_what_counts_as_a_hit_is_the_rating() -> None:
    rng = np.random.default_rng(0)
    values = [rng.integers(1, 6, length).astype(float).tolist() for length in (6, 9, 3)]
    query = Ragged.from_lists([list(range(len(v))) for v in values], values)
    order_N = rng.normal(size=len(query.item))
    found = top_rated(order_N, query, (2, 5))
    for user, (first, last) in enumerate(zip(query.offsets, query.offsets[1:], strict=False)):
        listed = query.value[first:last][np.argsort(-order_N[first:last])].tolist()
        for k in (2, 5):
            names = (f"precision@{k}", f"map@{k}")
            if len(listed) < k:
                assert all(np.isnan(found[name][user]) for name in names)
            else:
                expected = by_hand(listed, k)
                assert [found[n][user] for n in names] == pytest.approx(expected, abs=1e-12)


def test_drawn_positives_give_a_list_without_order_what_chance_gives() -> None:
    values = [[5.0] * 7 + [1.0] * 3, [5.0, 5.0, 4.0, 4.0, 4.0, 3.0, 3.0, 2.0, 2.0, 1.0]] * 200
    query = Ragged.from_lists([list(range(10))] * 400, values)
    chance = drawn_positives(np.zeros(4000), query, 5)
    # 5 of 10 are relevant; the first of them is at place r with probability C(10 - r, 4) / 252.
    expected = {"precision": 0.5, "ndcg": 0.5, "mrr": (126 + 70 / 2 + 35 / 3 + 15 / 4 + 1) / 252}
    for name, value in expected.items():
        assert chance[f"drawn_{name}@5"].mean() == pytest.approx(value, abs=0.01)
    perfect = drawn_positives(query.value, query, 5)
    # Seven share the first place and five of them are relevant: no order is told from another.
    assert perfect["drawn_precision@5"][::2].mean() == pytest.approx(5 / 7, abs=0.01)
    np.testing.assert_array_equal(perfect["drawn_precision@5"][1::2], 1.0)


def test_recall_is_over_what_a_list_can_hold() -> None:
    class Fixed:
        name, predicts_values = "fixed", False

        def score_query(self, tasks: Tasks) -> np.ndarray:
            raise NotImplementedError

        def score_items(self, tasks: Tasks) -> np.ndarray:
            return np.tile(-np.arange(200.0), (len(tasks), 1))

    log = dataclasses.replace(small_log(num_users=2, num_items=200), about={"name": "small"})
    # Item 0 is known; of the first user's query 1..30 are best, of the second's 1 and 150 are.
    taken = [[*range(31)], [0, 1, 150]]
    user = np.repeat([0, 1], [31, 3])
    item = np.concatenate(taken)
    log = dataclasses.replace(log, user=user, item=item, value=np.ones(34, np.float32))
    tasks = tasks_of(log, np.arange(34), item != 0, state=STATE)
    found = strong.metrics(Fixed(), tasks, 200)
    assert found["recall@20"].tolist() == [1.0, 0.5]
    assert found["recall@50"].tolist() == [1.0, 0.5]
    assert found["ndcg@100"] == pytest.approx([1.0, 1 / (1 + 1 / np.log2(3))])


SPLITS: dict[str, tuple[Callable[..., Problem], Callable[..., dict[str, Tasks]]]] = {
    "metarec": (METAREC.problem, METAREC.cold_users),
    "tanp": (TANP.problem, TANP.cold_users),
    "hire": (contexts.problem, contexts.cold_users),
    "strong": (strong.problem, strong.cold_users),
}


@pytest.mark.parametrize("split", SPLITS)
def test_nobody_sees_a_cold_user_and_rows_are_divided_as_the_paper_says(split: str) -> None:
    problem_of, cold_of = SPLITS[split]
    log = small_log(num_users=80)
    if split == "strong":
        log = strong.liked(log)
        assert set(log.value.tolist()) == {1.0}
    problem, cold = problem_of(log, "filtered", 0), cold_of(log, 0)
    seen = set(problem.train.user_id)
    for state, tasks in cold.items():
        assert len(tasks) > 0
        if state != "item_cold":
            assert seen.isdisjoint(tasks.user_id)
        development = problem.development[state]
        if state == STATE:
            assert set(development.judges.user_id).isdisjoint(development.train.user_id)
    support, query = cold[STATE].support.lengths, cold[STATE].query.lengths
    if split == "strong":
        np.testing.assert_array_equal(query, (support + query) // 5)
    elif split == "metarec":
        assert set(query.tolist()) == {10}
    else:
        assert set(support.tolist()) == {20 if split == "tanp" else 3}
        assert max(query) == (70 if split == "tanp" else 29)


@pytest.mark.parametrize("split", SPLITS)
def test_what_learners_see_does_not_depend_on_a_cold_row(split: str) -> None:
    problem_of, cold_of = SPLITS[split]
    log = small_log(num_users=80)
    log = strong.liked(log) if split == "strong" else log
    names = {user for tasks in cold_of(log, 0).values() for user in tasks.user_id}
    if split == "hire":
        assert log.state is not None
        is_cold = log.state != "warm"
    else:
        is_cold = np.isin(log.profiles["user_id"].to_numpy(zero_copy_only=False), list(names))
        is_cold = is_cold[log.user]
    assert is_cold.any()
    blind = dataclasses.replace(
        log,
        value=np.where(is_cold, np.float32(np.nan), log.value),
        item=np.where(is_cold, (log.item + 1) % log.num_items, log.item),
    )
    for first, second in zip(parts(problem_of, log), parts(problem_of, blind), strict=True):
        np.testing.assert_array_equal(first, second)


def parts(problem_of: Callable[..., Problem], log: Log) -> list[np.ndarray]:
    problem = problem_of(log, "filtered", 0)
    tasks = [problem.train]
    for development in problem.development.values():
        tasks += [development.train, development.judges]
    sides = [side for one in tasks for side in (one.support, one.query)]
    found = [array for s in sides for array in (s.offsets, s.item, s.value)]
    return [*found, np.array(problem.value_range), *[np.array(one.user_id) for one in tasks]]


def test_the_page_is_what_the_results_make() -> None:
    results, audit = leaderboard.load()
    assert leaderboard.page(results, audit) == leaderboard.PAGE.read_text(encoding="utf-8")
    assert results, "there is no result of the record"


def test_make_leaderboard_runs_every_protocol_of_the_record() -> None:
    makefile = (Path(leaderboard.__file__).parents[3] / "Makefile").read_text(encoding="utf-8")
    (named,) = re.findall(r"^RECORD +:= (.*)$", makefile, flags=re.MULTILINE)
    assert named.split() == list(PROTOCOLS)


def test_released_code_is_had_at_its_commit_and_outside_of_the_tree(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", "-C", str(tmp_path / "theirs"), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    (tmp_path / "theirs").mkdir()
    git("init", "--quiet")
    (tmp_path / "theirs" / "scorer.py").write_text("WORD = 'theirs'\n")
    git("add", ".")
    git("commit", "--quiet", "--message", "one")
    commit = git("rev-parse", "HEAD")
    project = Project(name="Theirs", repository=str(tmp_path / "theirs"), commit=commit, reason="")
    place = project.checkout(tmp_path / "code")
    assert (place / "scorer.py").exists()
    assert project.checkout(tmp_path / "code") == place
    with pytest.raises(UserError, match="outside of"):
        project.checkout(TREE / "build")
    other = dataclasses.replace(project, commit="0" * 40)
    with pytest.raises(UserError, match="remove the folder"):
        other.checkout(tmp_path / "code")
    absent = dataclasses.replace(project, repository=str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"Put a clone of it .* as Theirs"):
        absent.checkout(tmp_path / "elsewhere")
    # An adaptor finds the project's modules, not those beside itself.
    adaptor = tmp_path / "adaptor" / "run_theirs.py"
    adaptor.parent.mkdir()
    adaptor.with_name("scorer.py").write_text("WORD = 'ours'\n")
    adaptor.write_text("import scorer, sys\nopen(sys.argv[1], 'w').write(scorer.WORD)\n")
    project.run(tmp_path / "code", str(adaptor), tmp_path / "said")
    assert (tmp_path / "said").read_text() == "theirs"
    adaptor.write_text("import no_such_module\n")
    with pytest.raises(UserError, match=r"(?s)Theirs's code fails here: .*no_such_module"):
        project.run(tmp_path / "code", str(adaptor))
