"""The endpoint reads profiles from the online store, and answers without it where it fails."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from feature_repository import Repository

from recmeta.endpoint.answers.champion import ServedChampion
from recmeta.endpoint.answers.models import RecommendationAnswer
from recmeta.endpoint.answers.online import online_profiles_of
from recmeta.endpoint.answers.recommend import Ask, BatchRecommender
from recmeta.endpoint.operation.metrics import Metrics
from recmeta.errors import UserError
from recmeta.manifest import latest
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.serving.intake import GivenUser, Value
from recmeta.steps.data import build_tasks
from recmeta.tasks.task_set import TaskSet


@pytest.fixture(scope="module")
def champion(repository: Repository) -> ServedChampion:
    tasks = latest(repository.workspace, build_tasks.STEP)
    task_set = TaskSet(repository.workspace / tasks.outputs.tasks)
    model = Model.untrained(ModelConfig(), task_set, torch.device("cpu"))
    params = model.learner.init_params(torch.Generator().manual_seed(0))
    # A fresh last layer is nearly zero, and would hide the profile.
    model.params = {
        name: p + 0.1 * torch.sin(torch.arange(p.numel())).reshape(p.shape)
        for name, p in params.items()
    }
    return ServedChampion.of("1", model)


def ask(champion: ServedChampion, user_id: str | None, **profile: Value) -> Ask:
    return Ask(
        champion=champion,
        user=GivenUser(item_id=("i03",), value=(4.0,), time=(None,), profile=profile),
        user_id=user_id,
        top_k=5,
        max_reasons=0,
    )


def scores(answer: RecommendationAnswer) -> list[float]:
    return [one.score for one in answer.recommendations]


def test_the_store_wins_over_what_is_given(
    repository: Repository, champion: ServedChampion
) -> None:
    online = online_profiles_of(str(repository.folder))
    (user_id,) = list(online(["u00", "u000", "u01", "u001"]))[:1]
    known = {n: v for n, v in online([user_id])[user_id].items() if n in champion.intake.fields}
    assert known["age"] is not None
    recommender = BatchRecommender(online, Metrics(), online_seconds=60.0)
    asks = [
        ask(champion, user_id, age=99.0),
        ask(champion, None, **known),
        ask(champion, "nobody-knows", age=99.0),
        ask(champion, None, age=99.0),
    ]
    with ThreadPoolExecutor(1) as thread:  # as the endpoint calls it: not where it was opened
        answers = thread.submit(recommender, asks).result()
    assert scores(answers[0]) == pytest.approx(scores(answers[1]), abs=1e-5)
    assert scores(answers[2]) == pytest.approx(scores(answers[3]), abs=1e-5)
    assert scores(answers[0]) != pytest.approx(scores(answers[3]), abs=1e-5)
    assert not any(answer.warnings for answer in answers)


def test_a_store_that_fails_is_done_without(champion: ServedChampion) -> None:
    def failing(user_ids: Sequence[str]) -> Mapping[str, Mapping[str, Value]]:
        raise ConnectionError("the store is away")

    metrics = Metrics()
    asks = [ask(champion, "u01", age=30.0), ask(champion, None, age=30.0)]
    answers = BatchRecommender(failing, metrics, online_seconds=60.0)(asks)
    assert [w.code for w in answers[0].warnings] == ["profile_unavailable"]
    assert answers[1].warnings == []
    assert scores(answers[0]) == pytest.approx(scores(answers[1]), abs=1e-5)
    assert "online_store_failures_total 1.0" in metrics.to_text().decode()


def test_no_store_is_told_when_the_server_starts() -> None:
    with pytest.raises(UserError, match="there is no feature store"):
        online_profiles_of("nowhere")
