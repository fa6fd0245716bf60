"""What every baseline must keep, as a test class to inherit from.

    class TestMyBaseline(BaselineConformance):
        baseline = my_package.my_baseline.BASELINE

pytest finds the inherited tests, and runs them for each kind of feedback that the baseline learns
from. Needs pytest, which recmeta itself does not.

Legend: B users, N query rows, I items.
"""

import dataclasses
import importlib.util
from typing import ClassVar, NamedTuple

import numpy as np
import pytest

from recmeta.evaluation.baseline import Baseline, BaselineSearch, Trial
from recmeta.evaluation.baseline_parts.lists_of_ratings import ValuesAndLists
from recmeta.evaluation.predictor import Predictor
from recmeta.tasks.task_set import Objective, Tasks, TaskSet
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import MemoryFolder


class FittedBaseline(NamedTuple):
    """What the tests look at."""

    search: BaselineSearch
    predictor: Predictor
    """The best candidate."""
    trials: list[Trial]
    """Those of the baseline itself."""
    test: Tasks
    """Users whom it never saw."""


_FITTED: dict[tuple[type, str, Objective], FittedBaseline] = {}


class BaselineConformance:
    """Inherit, and say which baseline."""

    baseline: ClassVar[Baseline]
    """The baseline under test."""
    reads_support: ClassVar[bool] = True
    """False for one that says the same of an item to everybody."""
    config: ClassVar[SyntheticConfig] = SyntheticConfig(num_users=120, num_items=40)
    """The synthetic log."""

    @pytest.fixture(params=["rating", "implicit"])
    def objective(self, request: pytest.FixtureRequest) -> Objective:
        """Return a kind of feedback that the baseline learns from."""
        objective: Objective = request.param
        if objective not in self.baseline.objectives:
            pytest.skip(f"{self.baseline.name} does not learn from this feedback")
        library = self.baseline.library
        if library is not None and importlib.util.find_spec(library) is None:
            pytest.skip(f"{self.baseline.name} needs {library}")
        if self.baseline.reads_texts:
            pytest.skip(f"{self.baseline.name} needs texts, which the synthetic log has none of")
        return objective

    @pytest.fixture
    def search(self, objective: Objective) -> BaselineSearch:
        """Return a search over a small synthetic log."""
        return self.search_of(self._task_set(objective))

    def _task_set(self, objective: Objective) -> TaskSet:
        config = dataclasses.replace(self.config, objective=objective)
        return write_task_set(generate(config, seed=1), MemoryFolder())

    def search_of(self, task_set: TaskSet) -> BaselineSearch:
        """Return a search over a task set."""
        spec = task_set.spec
        return BaselineSearch(
            objective=spec.objective,
            value_range=spec.value_range,
            num_items=spec.num_items,
            train=task_set.tasks("train"),
            judges=task_set.tasks("dev"),
            items=task_set.items(),
            history=task_set.history(),
        )

    @pytest.fixture
    def test(self, objective: Objective) -> Tasks:
        """Return users whom the search never sees."""
        return self._task_set(objective).tasks("test")

    @pytest.fixture
    def fitted(self, search: BaselineSearch, test: Tasks) -> FittedBaseline:
        """Return the baseline, tuned and fitted, once for all tests of the class."""
        key = (type(self), self.baseline.name, search.objective)
        if key not in _FITTED:
            trials: list[Trial] = []
            told = dataclasses.replace(search, on_trial=trials.append)
            predictor = told.fitted(self.baseline)
            own = [trial for trial in trials if trial.method == self.baseline.name]
            _FITTED[key] = FittedBaseline(told, predictor, own, test)
        return _FITTED[key]

    def test_it_is_called_as_its_predictor(self, fitted: FittedBaseline) -> None:
        assert fitted.predictor.name == self.baseline.name

    def test_scores_are_finite_numbers_of_the_right_shapes(self, fitted: FittedBaseline) -> None:
        scores_N = fitted.predictor.score_query(fitted.test)
        scores_BI = fitted.predictor.score_items(fitted.test)
        assert scores_N.shape == fitted.test.query.item.shape
        assert scores_BI.shape == (len(fitted.test), fitted.search.num_items)
        assert np.isfinite(scores_N).all()
        assert np.isfinite(scores_BI).all()

    def test_predicted_values_are_on_the_scale(self, fitted: FittedBaseline) -> None:
        if not fitted.predictor.predicts_values:
            pytest.skip(f"{self.baseline.name} predicts no values")
        lowest, highest = fitted.search.value_range
        scores_N = fitted.predictor.score_query(fitted.test)
        assert scores_N.min() >= lowest - 1e-6
        assert scores_N.max() <= highest + 1e-6

    def test_the_catalogue_is_scored_as_the_query_is(self, fitted: FittedBaseline) -> None:
        """But for what lies beyond the scale, which is not clipped in lists, and unless lists are
        made in another way than predictions."""
        if isinstance(fitted.predictor, ValuesAndLists):
            pytest.skip(f"{self.baseline.name} makes lists in another way")
        query = fitted.test.query
        scores_N = fitted.predictor.score_items(fitted.test)[query.task, query.item]
        if fitted.predictor.predicts_values:
            scores_N = np.clip(scores_N, *fitted.search.value_range)
        expected_N = fitted.predictor.score_query(fitted.test)
        np.testing.assert_allclose(scores_N, expected_N, rtol=1e-3, atol=1e-3)

    def test_without_support_everybody_gets_the_same(self, fitted: FittedBaseline) -> None:
        """Whoever differs by nothing but a profile may differ."""
        strangers = fitted.test.with_shots(0)
        assert np.isfinite(fitted.predictor.score_items(strangers)).all()
        if not self.reads_support:
            expected = fitted.predictor.score_items(fitted.test)
            np.testing.assert_array_equal(fitted.predictor.score_items(strangers), expected)

    def test_a_users_scores_do_not_depend_on_the_batch(self, fitted: FittedBaseline) -> None:
        whole_N = fitted.predictor.score_query(fitted.test)
        parts = [fitted.predictor.score_query(batch) for batch in fitted.test.batches(7)]
        np.testing.assert_allclose(np.concatenate(parts), whole_N, rtol=1e-4, atol=1e-4)

    def test_the_truth_is_not_read(self, fitted: FittedBaseline) -> None:
        query = fitted.test.query
        blind = dataclasses.replace(
            fitted.test, query=dataclasses.replace(query, value=np.full_like(query.value, np.nan))
        )
        expected = fitted.predictor.score_query(fitted.test)
        np.testing.assert_array_equal(fitted.predictor.score_query(blind), expected)

    def test_the_best_candidate_is_chosen(self, fitted: FittedBaseline) -> None:
        search = fitted.search
        found = search.loss_of(self.baseline, fitted.predictor)
        assert np.isfinite(found)
        if fitted.trials:
            assert found == min(trial.loss for trial in fitted.trials)

    def test_the_same_search_finds_the_same(
        self, search: BaselineSearch, fitted: FittedBaseline
    ) -> None:
        again = search.fitted(self.baseline)
        expected = fitted.predictor.score_items(fitted.test)
        np.testing.assert_array_equal(again.score_items(fitted.test), expected)

    def test_it_is_fitted_where_nobody_judges(self, search: BaselineSearch, test: Tasks) -> None:
        nobody = search.judges.take(np.arange(0))
        predictor = dataclasses.replace(search, judges=nobody).fitted(self.baseline)
        assert np.isfinite(predictor.score_query(test)).all()

    def test_what_was_chosen_is_fitted_to_everybody(
        self, search: BaselineSearch, fitted: FittedBaseline
    ) -> None:
        everybody = Tasks.joined([search.train, search.judges])
        predictor = dataclasses.replace(search, everybody=everybody).fitted(self.baseline)
        assert np.isfinite(predictor.score_items(fitted.test)).all()
