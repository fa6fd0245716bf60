"""N-way K-shot episodes are what they say, and accuracy counts what it should."""

import dataclasses
import os

import numpy as np
import pytest

from benchmarks.few_shot import measured, report
from benchmarks.few_shot.__main__ import main, parser
from benchmarks.few_shot.episodes import EpisodeConfig, images, write_episodes
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import MemoryFolder

pytest.importorskip("sklearn")
CONFIG = EpisodeConfig(num_ways=3, num_shots=2, num_queries=2, num_episodes=20)


@pytest.fixture(scope="module")
def task_set() -> TaskSet:
    return write_episodes(CONFIG, MemoryFolder(), 0)


def test_an_episode_has_its_shots_of_every_class_once(task_set: TaskSet) -> None:
    for split in ("train", "dev", "test"):
        tasks = task_set.tasks(split)
        known = tasks.support.value.reshape(-1, 3, 6)  # episodes, ways, images
        asked = tasks.query.value.reshape(-1, 3, 6)
        assert (known.sum(2) == 2).all(), "as many known images of each class as there are shots"
        assert (known.sum(1) == 1).all(), "an image has one class"
        assert (asked.sum(2) == 2).all()
        item = np.concatenate(
            [tasks.support.item.reshape(-1, 3, 6), tasks.query.item.reshape(-1, 3, 6)], 2
        )
        assert (item == item[:, :1]).all(), "the tasks of an episode are over the same images"
        for one in item[:, 0]:
            assert len(set(one.tolist())) == 12
    assert [task_set.spec.num_tasks[s] for s in ("train", "dev", "test")] == [39, 6, 15]


def test_no_class_of_the_test_is_learned_from(task_set: TaskSet) -> None:
    items = {s: set((task_set.tasks(s).rows.item // 40).tolist()) for s in ("train", "dev", "test")}
    assert max(items["train"] | items["dev"]) < 20 <= min(items["test"])


def test_images_of_a_rotation_are_turned() -> None:
    image_CIA = images()
    assert image_CIA.shape == (40, 40, 16)
    assert image_CIA.min() >= 0
    assert image_CIA.max() == 1
    upright, turned = image_CIA[20, 0].reshape(4, 4), image_CIA[21, 0].reshape(4, 4)
    np.testing.assert_array_equal(np.rot90(upright), turned)


def test_the_nearest_image_is_found_and_a_wrong_answer_counts(task_set: TaskSet) -> None:
    found = measured.nearest_accuracy(task_set, CONFIG)
    assert found.shape == (5,)
    assert found.mean() > 0.8
    tasks = task_set.tasks("test")
    truth = tasks.query.value.reshape(15, 6).astype(float)
    np.testing.assert_array_equal(measured._found(truth, task_set, CONFIG), 1.0)
    wrong = np.roll(truth.reshape(5, 3, 6), 1, axis=1).reshape(15, 6)
    np.testing.assert_array_equal(measured._found(wrong, task_set, CONFIG), 0.0)


def test_a_learner_that_there_is_not_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert parser().parse_args([]).seeds == 5
    assert main(["--learners", "prototypica"]) == 2
    assert "prototypical" in capsys.readouterr().err
    assert main(["--seeds", "0"]) == 2


@pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="RECMETA_SLOW=1 runs it")
def test_a_learner_tells_new_classes_apart_and_is_trained_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = dataclasses.replace(CONFIG, num_episodes=80)
    monkeypatch.setattr(report, "PROBLEMS", {"3-way": more})
    work = MemoryFolder()
    data, text = report.run(["prototypical"], 1, work)
    monkeypatch.setattr(measured, "trained", None)
    again, _ = report.run(["prototypical"], 1, work)
    assert again == data
    nearest, learner = (row["accuracy"]["mean"] for row in data["rows"])
    assert nearest > 0.8
    assert 1 / 3 + 0.2 < learner < 1
    assert "| `prototypical` |" in text
