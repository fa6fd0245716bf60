"""What every learner must keep, as a test class to inherit from.

    class TestMyLearner(LearnerConformance):
        def make_model(self, task_set):
            model = Model.untrained(ModelConfig(), task_set, torch.device("cpu"))
            model.learner = MyLearner(...)
            return model

pytest finds the inherited tests. Needs pytest, which recmeta itself does not.

Legend: B users, R rows (padded), N query rows of all users.
"""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pytest
import torch

from recmeta import schema
from recmeta.metalearn.factors.weighted_als import WeightedALSConfig, factorise_weighted
from recmeta.metalearn.learner import Params, with_derived
from recmeta.metalearn.model import Model
from recmeta.metalearn.outer_loop.trainer import TrainingConfig, development_loss, train
from recmeta.metalearn.scorer import Scorer
from recmeta.metalearn.starts.beginning import (
    ItemFactors,
    StartInputs,
    StartName,
    WeightedItemFactors,
)
from recmeta.metalearn.tensors.batch import Rows, Support, TaskBatch
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.task_set import (
    Objective,
    Ragged,
    Tasks,
    TaskSet,
)
from recmeta.testing.rounding import tolerances
from recmeta.testing.synthetic import SyntheticConfig, generate
from recmeta.testing.tasks import write_task_set
from recmeta.workspace import Folder, MemoryFolder


class Subject(NamedTuple):
    """What the tests look at."""

    model: Model
    """With freshly drawn parameters."""
    task_set: TaskSet
    ragged: Tasks
    """Users with 0, 1, 2, 5 and all support rows; the third has one item twice."""

    def batch(self) -> TaskBatch:
        """Return the ragged users as a padded batch."""
        return self.model.batch(self.ragged)


class LearnerConformance:
    """Inherit, and say how to make a model. Numbers are compared on the CPU."""

    objective: ClassVar[Objective] = "rating"
    """What the synthetic log holds."""
    order_matters: bool = False
    """True for a learner whose adaptation depends on the order of the support."""
    fixed: ClassVar[tuple[str, ...]] = ()
    """How the names of those parameters begin that meta-training leaves as they are."""
    training: ClassVar[TrainingConfig] = TrainingConfig(epochs=8, learning_rate=1e-2)
    """Enough for adapting to pay on the synthetic log."""
    roundings: ClassVar[int] = 1_000
    """Roundings behind one prediction: sums over dozens of rows and of features, in a few layers,
    steps and members."""

    def make_model(self, task_set: TaskSet) -> Model:
        """Return an untrained model with the learner under test, on the CPU."""
        raise NotImplementedError("a conformance test must say how to make its model.")

    def load_model(self, folder: Folder) -> Model:
        """Return the model that `Model.save` wrote."""
        return Model.load(folder)

    @pytest.fixture
    def subject(self) -> Subject:
        """Return a model over a small synthetic log."""
        return self.make_subject()

    def make_subject(self) -> Subject:
        """Return a model over a small synthetic log, which is in memory."""
        config = SyntheticConfig(num_users=300, num_items=60, objective=self.objective)
        task_set = write_task_set(generate(config, seed=1), MemoryFolder())
        model = self.make_model(task_set)
        model.params = model.learner.init_params(torch.Generator().manual_seed(3))
        return Subject(model, task_set, _ragged(task_set.tasks("test"), self.objective))

    # Shapes ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("num_shots", [0, 1, 2, 10])
    def test_predicts_for_any_number_of_shots(self, subject: Subject, num_shots: int) -> None:
        tasks = subject.task_set.tasks("test").with_shots(num_shots)
        scores = Scorer.of(subject.model).score_query(tasks)
        assert scores.shape == tasks.query.item.shape
        assert np.isfinite(scores).all()

    def test_no_support_columns_equal_masked_ones(self, subject: Subject) -> None:
        batch = subject.batch()
        none = dataclasses.replace(batch.support.rows, mask_BR=batch.support.rows.mask_BR & False)
        masked = self._predict(subject, Support(batch.support.user, none), batch.query)
        empty = Support(batch.support.user, _columns(batch.support.rows, 0))
        torch.testing.assert_close(self._predict(subject, empty, batch.query), masked)

    def test_no_query_columns_give_no_predictions(self, subject: Subject) -> None:
        batch = subject.batch()
        predicted = self._predict(subject, batch.support, _columns(batch.query, 0))
        assert predicted.shape == (len(batch), 0)

    def test_users_with_one_item_in_all(self, subject: Subject) -> None:
        tasks = subject.task_set.tasks("test").take(np.arange(4))
        single = dataclasses.replace(
            tasks, support=tasks.query.first(0), query=tasks.query.first(1)
        )
        gradients, metrics = self._gradient(subject, subject.model.batch(single))
        assert np.isfinite(metrics["loss"])
        assert all(g.isfinite().all() for g in gradients.values())

    # Purity ------------------------------------------------------------------------------------

    def test_adapting_and_predicting_leave_the_parameters(self, subject: Subject) -> None:
        before = {name: p.clone() for name, p in subject.model.params.items()}
        batch = subject.batch()
        self._predict(subject, batch.support, batch.query)
        self._gradient(subject, batch)
        assert subject.model.params.keys() == before.keys()
        for name, p in subject.model.params.items():
            assert torch.equal(p, before[name]), name
            assert not p.requires_grad, name

    def test_the_learner_holds_no_state(self, subject: Subject) -> None:
        """What was asked before, and of which parameters, changes nothing."""
        model, batch = subject.model, subject.batch()
        unused = copy.deepcopy(model.learner)
        fresh = model.learner.init_params(torch.Generator().manual_seed(9))
        other = {name: p + 0.01 for name, p in fresh.items()}
        model.learner.meta_gradient(other, batch, torch.Generator().manual_seed(7))
        self._predict(subject, batch.support, batch.query, other)
        for name, p in other.items():  # in place, as an optimiser changes them
            p.copy_(model.params[name])
        used = self._predict(subject, batch.support, batch.query, other)
        model.learner = unused
        assert torch.equal(self._predict(subject, batch.support, batch.query), used)

    def test_what_is_derived_changes_nothing(self, subject: Subject) -> None:
        model, batch = subject.model, subject.batch()
        whole = with_derived(model.learner, model.params)
        expected = self._predict(subject, batch.support, batch.query)
        assert torch.equal(self._predict(subject, batch.support, batch.query, whole), expected)

    def test_predicting_does_not_read_the_truth(self, subject: Subject) -> None:
        batch = subject.batch()
        blind = dataclasses.replace(
            batch.query, value_BR=torch.full_like(batch.query.value_BR, torch.nan)
        )
        seen = self._predict(subject, batch.support, batch.query)
        assert torch.equal(self._predict(subject, batch.support, blind), seen)

    def test_a_ready_scorer_predicts_the_same(self, subject: Subject) -> None:
        model, ragged = subject.model, subject.ragged
        last = len(model.catalogue.statistics.time) - 1
        of_now = dataclasses.replace(
            ragged,
            cut_time=np.full_like(ragged.cut_time, schema.END_OF_TIME),
            snapshot=np.full_like(ragged.snapshot, last),
            support=_not_counted(ragged.support),
            query=_not_counted(ragged.query),
        )
        scorer = Scorer.of(model)
        expected_N = scorer.score_query(of_now)
        found_N = scorer.ready().score_query(of_now)
        np.testing.assert_allclose(found_N, expected_N, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_a_user_is_alone_in_the_batch(self, subject: Subject, dtype: str) -> None:
        params = _cast(subject.model.params, getattr(torch, dtype))
        allowed = self._rounding(subject, params)
        together = self._predict(subject, subject.batch().support, subject.batch().query, params)
        mask_BR = subject.batch().query.mask_BR
        for b in range(len(subject.ragged)):
            batch = subject.model.batch(subject.ragged.take(np.array([b])))
            alone = self._predict(subject, batch.support, batch.query, params)
            assert alone.dtype == getattr(torch, dtype)
            torch.testing.assert_close(alone[0], together[b, mask_BR[b]], rtol=0, atol=allowed)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_padding_changes_nothing(self, subject: Subject, dtype: str) -> None:
        params = _cast(subject.model.params, getattr(torch, dtype))
        batch = subject.batch()
        padded = Support(batch.support.user, _padded(batch.support.rows))
        plain = self._predict(subject, batch.support, batch.query, params)
        after = self._predict(subject, padded, _padded(batch.query), params)
        mask_BR = batch.query.mask_BR
        torch.testing.assert_close(
            after[:, : mask_BR.shape[1]][mask_BR],
            plain[mask_BR],
            rtol=0,
            atol=self._rounding(subject, params),
        )

    def test_the_order_of_the_support_is_nothing(self, subject: Subject) -> None:
        if self.order_matters:
            pytest.skip("this learner reads the support in order")
        params = _cast(subject.model.params, torch.float64)
        batch = subject.batch()
        order = torch.randperm(
            batch.support.rows.mask_BR.shape[1], generator=torch.Generator().manual_seed(5)
        )
        shuffled = Support(batch.support.user, _map_rows(batch.support.rows, lambda t: t[:, order]))
        torch.testing.assert_close(
            self._predict(subject, shuffled, batch.query, params),
            self._predict(subject, batch.support, batch.query, params),
            rtol=0,
            atol=self._rounding(subject, params),
        )

    # Gradients ---------------------------------------------------------------------------------

    def test_gradients_are_finite_and_named_as_the_parameters(self, subject: Subject) -> None:
        gradients, metrics = self._gradient(subject, subject.batch())
        assert np.isfinite(metrics["loss"])
        params = subject.model.params
        learned = {n: p for n, p in params.items() if not n.startswith(self.fixed)}
        assert gradients.keys() == learned.keys(), gradients.keys() ^ learned.keys()
        for name, p in learned.items():
            assert gradients[name].shape == p.shape, name
            assert gradients[name].isfinite().all(), name
        assert any(g.any() for g in gradients.values())

    def test_the_same_batch_gives_the_same_bits(self, subject: Subject) -> None:
        first, first_metrics = self._gradient(subject, subject.batch())
        second, second_metrics = self._gradient(subject, subject.batch())
        assert first_metrics == second_metrics
        for name, gradient in first.items():
            assert torch.equal(gradient, second[name]), name

    def test_a_batch_is_the_mean_of_its_parts(self, subject: Subject) -> None:
        """Whatever the parts and their order, as several processes share a batch."""
        model, params = subject.model, _cast(subject.model.params, torch.float64)
        tasks = subject.task_set.tasks("train")
        place = np.arange(3, 14)

        def part(some: np.ndarray) -> tuple[Params, float]:
            batch = model.batch(tasks.take(some), place_B=torch.from_numpy(some))
            batch = dataclasses.replace(batch, num_together=len(place))
            generator = torch.Generator().manual_seed(7)
            gradients, metrics = model.learner.meta_gradient(params, batch, generator)
            return {n: g.to_dense() for n, g in gradients.items()}, metrics["loss"]

        whole, loss = part(place)
        shuffled = np.random.default_rng(2).permutation(place)
        parts = [(part(some), len(some) / len(place)) for some in np.split(shuffled, [1, 4])]
        assert loss == pytest.approx(sum(share * found[1] for found, share in parts), rel=1e-9)
        longest = max(float(g.abs().max()) for g in whole.values())
        for name, gradient in whole.items():
            mean = torch.stack([share * found[0][name] for found, share in parts]).sum(0)
            torch.testing.assert_close(mean, gradient, rtol=1e-10, atol=1e-10 * longest, msg=name)

    # The start -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", ["factors", "bayesian-factors", "random"])
    def test_a_start_has_the_parameters_of_the_learner(
        self, subject: Subject, name: StartName
    ) -> None:
        model, fresh = subject.model, subject.model.params
        before = {n: p.clone() for n, p in fresh.items()}
        inputs = _start_inputs(subject, name)
        start = model.config.learner.start(model, fresh, inputs)
        again = model.config.learner.start(model, fresh, inputs)
        assert start.params.keys() == fresh.keys()
        for n, p in start.params.items():
            assert torch.equal(fresh[n], before[n]), n
            assert torch.equal(again.params[n], p), n
            assert p.isfinite().all(), n
            assert name != "random" or torch.equal(p, fresh[n]), n
        own = dataclasses.replace(
            model.batch(inputs.tasks.take(np.arange(5)), place_B=torch.arange(5)),
            left_out_KIF=start.left_out_KIF,
        )
        gradients, metrics = model.learner.meta_gradient(
            start.params, own, torch.Generator().manual_seed(7)
        )
        assert np.isfinite(metrics["loss"])
        assert all(g.isfinite().all() for g in gradients.values())

    # Keeping and training ----------------------------------------------------------------------

    def test_saved_and_loaded_it_predicts_the_same_bits(
        self, subject: Subject, tmp_path: Path
    ) -> None:
        folder = Folder.at(tmp_path)
        subject.model.save(folder)
        # A saved model has the newest item statistics alone; tasks ask for those of their time.
        catalogue = subject.model.catalogue
        loaded = self.load_model(folder).on(catalogue.items, catalogue.statistics)
        expected_N = Scorer.of(subject.model).score_query(subject.ragged)
        np.testing.assert_array_equal(Scorer.of(loaded).score_query(subject.ragged), expected_N)

    def test_adapting_pays_after_training(self, subject: Subject) -> None:
        model = self.make_model(subject.task_set)
        train(
            model,
            subject.task_set.tasks("train"),
            subject.task_set.tasks("dev"),
            episodes=EpisodeConfig(batch_size=16),
            config=self.training,
            seed=0,
        )
        test = subject.task_set.tasks("test")
        adapted = development_loss(model, model.params, test, self.training)
        unadapted = development_loss(model, model.params, test.with_shots(0), self.training)
        assert adapted < unadapted

    # Helpers -----------------------------------------------------------------------------------

    def _predict(
        self, subject: Subject, support: Support, query: Rows, params: Params | None = None
    ) -> torch.Tensor:
        learner = subject.model.learner
        chosen = subject.model.params if params is None else params
        with torch.no_grad():
            return learner.predict(chosen, learner.adapt(chosen, support), query).mean_BR

    def _rounding(self, subject: Subject, params: Params) -> float:
        """Return how far predictions may be apart that are computed in another order."""
        batch = subject.batch()
        return tolerances(
            lambda p: {"mean": self._predict(subject, batch.support, batch.query, p)},
            params,
            roundings=self.roundings,
        )["mean"]

    def _gradient(self, subject: Subject, batch: TaskBatch) -> tuple[Params, dict[str, float]]:
        generator = torch.Generator().manual_seed(7)
        return subject.model.learner.meta_gradient(subject.model.params, batch, generator)


def _start_inputs(subject: Subject, name: StartName) -> StartInputs:
    """Return the inputs of a start whose factorisations are not tuned."""
    tasks = subject.task_set.tasks("train")
    config = WeightedALSConfig(num_factors=4, sweeps=2)
    num_items = subject.model.catalogue.num_items
    generator = torch.Generator().manual_seed(5)

    def factors() -> ItemFactors:
        return ItemFactors(
            torch.randn(num_items, generator=generator.manual_seed(5)),
            torch.randn((num_items, 3), generator=generator),
        )

    def weighted_factors() -> WeightedItemFactors:
        rows = tasks.rows
        return WeightedItemFactors(factorise_weighted(rows, num_items, config, 0), config)

    return StartInputs(
        name=name,
        seed=0,
        tasks=tasks,
        tuned_factors=factors,
        tuned_weighted_factors=weighted_factors,
    )


def _ragged(tasks: Tasks, objective: Objective) -> Tasks:
    """Return five users with 0, 1, 2 (both of one item), 5 and all support rows."""
    tasks = tasks.take(np.arange(5))
    wanted = np.array([0, 1, 1, 5, 1_000])
    support = tasks.support.select(tasks.support.position < wanted[tasks.support.task])
    again = support.select(support.task == 2)
    if objective == "rating":  # where feedback is implicit every value is 1
        again = dataclasses.replace(again, value=again.value + np.float32(0.5))
    return dataclasses.replace(tasks, support=support.followed_by(again))


def _map_rows(rows: Rows, change: Callable[[torch.Tensor], torch.Tensor]) -> Rows:
    return Rows(
        change(rows.item_BR),
        change(rows.statistics_BRD),
        change(rows.value_BR),
        change(rows.mask_BR),
    )


def _columns(rows: Rows, count: int) -> Rows:
    """Return the first `count` columns."""
    return _map_rows(rows, lambda t: t[:, :count])


def _padded(rows: Rows) -> Rows:
    """Return the rows with three more columns of padding."""
    return _map_rows(
        rows, lambda t: torch.cat([t, torch.zeros_like(t[:, :1].expand(-1, 3, *t.shape[2:]))], 1)
    )


def _cast(params: Params, dtype: torch.dtype) -> Params:
    return {name: p.to(dtype) for name, p in params.items()}


def _not_counted(side: Ragged) -> Ragged:
    """Return rows that are not part of their items' statistics."""
    return dataclasses.replace(side, counted=np.zeros_like(side.counted))
