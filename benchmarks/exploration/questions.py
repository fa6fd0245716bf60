"""What to ask and show a new user: a learned policy beside greedy choices and Thompson sampling.

Held-out users of MovieLens 100K are asked about one item after the other, and answer if they have
rated it in truth. Writes docs/results/asking-policy.json.

Legend: B users, C candidates, W weights, Q questions, P points of the curve.
"""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from benchmarks.accuracy import datasets
from benchmarks.accuracy.lists import to_text
from recmeta.api.data.dataset import Dataset
from recmeta.evaluation.comparison.bootstrap import mean_intervals
from recmeta.evaluation.learned import LearnedPredictor
from recmeta.evaluation.measuring.catalogue_metrics import ranking_of
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.numerics.named_draws import normal_by
from recmeta.metalearn.scorer import Scorer
from recmeta.recipes.configuration import pipeline_config
from recmeta.reporting.markdown import table
from recmeta.serving.asking_policy.fit import PolicyConfig, Prior, fit_policy, simulated_return
from recmeta.serving.asking_policy.policy import Aim, AskingPolicy, Questions, init_policy
from recmeta.serving.evidence.controls import RandomOrder, popularity
from recmeta.serving.evidence.familiarity import LatentClasses, knows
from recmeta.serving.evidence.fitting import as_training_users_left_it, at_the_end
from recmeta.serving.evidence.information import About, InformationGain
from recmeta.serving.evidence.interview import Interview, interview
from recmeta.serving.evidence.query_loss import query_loss
from recmeta.serving.evidence.respondents import Respondents, respondents
from recmeta.serving.evidence.strategy import Candidates, SoFar, Strategy
from recmeta.tasks.arrays import Float64Array, offsets_of
from recmeta.tasks.task_set import Ragged, Tasks
from recmeta.training.fit import fit_whole
from recmeta.training.recipes import training_of
from recmeta.training.start import at_start
from recmeta.workspace import MemoryFolder

DATASET, SCALE, LIKED_FROM = "ml-100k", (1.0, 5.0), 4.0
POINTS = (0, 1, 3, 5, 10)
NUM_DRAWS = 3
NUM_SIMULATED = 1_000
MOST_CANDIDATES = 2_000
CLASSES = (8, 32)
"""What the development users choose among for `information-gain`."""
GREEDY, POLICY = "information-gain", "learned-policy"
RESULT = Path(__file__).parents[2] / "docs/results/asking-policy.json"
RULES = (
    "The split of `recmeta run`; the model is `bayesian-linear` as it is trained by default. Cold "
    "test users are asked ten questions and answer if they rated the item in truth. A random 30 % "
    f"of their ratings (at most 20) is predicted and never asked about, drawn {NUM_DRAWS} times. "
    "Lists are out of the whole catalogue less the answers; relevant are the predicted ratings of "
    "4 and 5. Regret: of the first n items shown, how many more could have been known and liked. "
    "The numbers of latent classes and the subject of the information gain are those of the least "
    "error on the development users; the policies take over the classes."
)


@dataclasses.dataclass(frozen=True)
class ThompsonSampling:
    """Shows what is best for weights that are drawn from what is believed (Thompson, Biometrika
    1933): the item that the user would most probably know and like, if the draw were the truth."""

    policy: AskingPolicy
    seed: int = 0
    name: str = "thompson"

    def worth(self, so_far: SoFar) -> Float64Array:
        """Return the probability of knowing and liking each item; draws are by user and by how
        many questions were asked."""
        questions, classes = self.policy.questions, self.policy.classes
        state = Scorer.of(self.policy.model).adapt(so_far.users)
        mean_BW, whitener_BWW = state["weights"].double(), state["whitener"].double()
        asked = int((so_far.known_BC | so_far.unknown_BC).sum(1).max(initial=0))
        generator = torch.Generator().manual_seed(1_000 * self.seed + asked)
        normal_BW = normal_by(torch.arange(len(mean_BW)), mean_BW, generator)
        drawn_BW = mean_BW + (whitener_BWW.mT @ normal_BW[..., None])[..., 0]
        value_BC = questions.offset_C + drawn_BW @ questions.design_CW.T
        liked_BC = torch.special.ndtr((value_BC - questions.liked_from) / questions.noise_C.sqrt())
        found: Float64Array = liked_BC.numpy() * classes.probability(so_far)
        return found


@dataclasses.dataclass(frozen=True)
class Asked:
    """A model, and the people who are asked."""

    model: Model
    candidates: Candidates
    knows_UC: Any
    train: Tasks
    development: tuple[Respondents, ...]
    cold: tuple[Respondents, ...]


def prepared(data: Path | None, seed: int) -> Asked:
    """Train the model, and return the development and the cold users with all their ratings."""
    frames, _ = datasets.frames(DATASET, data)
    log = datasets.read(DATASET, data)
    dataset: Dataset[Any] = Dataset.from_frame(
        frames.rows,
        users=frames.users,
        items=frames.items,
        timestamp="time",
        time_unit="s",
        value="value",
        scale=SCALE,
        feedback="rating",
        event=None,
    )
    task_set = dataset.task_set(pipeline_config(seed=seed).tasks)
    how = dataclasses.replace(training_of("bayesian-linear"), seed=seed)
    begun = at_start(how, task_set, torch.device("cpu"))
    model = fit_whole(how, begun, task_set, MemoryFolder(), lambda epoch: None).model
    train = task_set.tasks("train")
    model = model.on(task_set.items(), task_set.statistics(), task_set.history())
    model = as_training_users_left_it(model, train)
    candidates = Candidates.most_rated(train, model.catalogue.num_items, MOST_CANDIDATES)

    def people(tasks: Tasks) -> tuple[Respondents, ...]:
        _, first = np.unique(tasks.user_id, return_index=True)
        users = tasks.take(np.sort(first))
        rows = _all_rows(log, users, model)
        generators = np.random.default_rng(seed).spawn(NUM_DRAWS)
        return tuple(respondents(at_the_end(users, model), rows, g)[0] for g in generators)

    development, cold = people(task_set.tasks("dev")), people(task_set.tasks("test"))
    return Asked(model, candidates, knows(candidates, train), train, development, cold)


def _all_rows(log: Any, users: Tasks, model: Model) -> Ragged:
    """Return every rating of the users."""
    number_U = pc.index_in(log.profiles["user_id"].combine_chunks(), pa.array(users.user_id))
    task_N = number_U.fill_null(-1).to_numpy()[log.user]
    number_I = pc.index_in(log.items.item_id, model.catalogue.items.item_id)
    item_N = number_I.fill_null(-1).to_numpy()[log.item]
    rows = np.flatnonzero((task_N >= 0) & (item_N >= 0))
    rows = rows[np.argsort(task_N[rows], kind="stable")]
    lengths = np.bincount(task_N[rows], minlength=len(users))
    return Ragged(
        offsets_of(lengths),
        item_N[rows].astype(np.int32),
        log.value[rows],
        np.zeros(len(rows), np.bool_),
    )


def strategies(asked: Asked, seed: int) -> tuple[dict[str, Strategy], dict[str, Any]]:
    """Return what is compared, and how it came about."""
    model, candidates = asked.model, asked.candidates
    best: tuple[float, LatentClasses, int, About] | None = None
    for num_classes in CLASSES:
        generator = np.random.default_rng(seed)
        classes = LatentClasses.fit(asked.knows_UC, num_classes, generator)
        for about in get_args(About):
            greedy = InformationGain(model, candidates, classes, about)
            held = interview(greedy, candidates, asked.development[0], max(POINTS))
            errors = [query_loss(model, held.after_questions(n)).mean() for n in POINTS[1:]]
            if best is None or float(np.mean(errors)) < best[0]:
                best = float(np.mean(errors)), classes, num_classes, about
    assert best is not None, "there are classes to try"
    _, classes, num_classes, about = best
    questions = Questions.of(model, candidates, classes, LIKED_FROM)
    found: dict[str, Strategy] = {
        "random": RandomOrder(candidates, seed),
        "popularity": popularity(candidates),
        GREEDY: InformationGain(model, candidates, classes, about),
    }
    chosen: dict[str, Any] = {"classes": num_classes, "about": about}
    prior = _prior(asked, classes)
    for aim in get_args(Aim):
        config = PolicyConfig(aim=aim, seed=seed)
        started = time.process_time()
        fitted = fit_policy(prior, questions, config)
        name = POLICY if aim == "accuracy" else f"{POLICY}, liking"
        found[name] = AskingPolicy(model, questions, classes, fitted, aim, name)
        seconds = time.process_time() - started
        first = init_policy(torch.Generator().manual_seed(seed))
        chosen[name] = {
            "fit_cpu_seconds": round(seconds, 1),
            "simulated_return": _simulated(fitted, prior, questions, config),
            "of_the_greedy_policy": _simulated(first, prior, questions, config),
        }
    liking = found[f"{POLICY}, liking"]
    assert isinstance(liking, AskingPolicy)
    untrained = init_policy(torch.Generator().manual_seed(seed))
    greedy_liking = dataclasses.replace(liking, params=untrained, name="greedy liking")
    found[greedy_liking.name] = greedy_liking
    return found | {"thompson": ThompsonSampling(liking, seed)}, chosen


def _simulated(params: Params, prior: Prior, questions: Questions, config: PolicyConfig) -> float:
    return round(simulated_return(params, prior, questions, config, NUM_SIMULATED), 4)


def _prior(asked: Asked, classes: LatentClasses) -> Prior:
    """Return what is believed of training users before any answer."""
    state = Scorer.of(asked.model).adapt(at_the_end(asked.train, asked.model).with_shots(0))
    return Prior(
        mean_UW=state["weights"].double(),
        whitener_UWW=state["whitener"].double(),
        weight_K=torch.from_numpy(classes.weight_K),
    )


def judged(asked: Asked, strategy: Strategy) -> dict[str, Float64Array]:
    """Return (B, P) by metric what asking the cold users was worth, a mean over the draws."""
    parts: dict[str, list[Float64Array]] = {}
    predictor = LearnedPredictor(strategy.name, asked.model)
    num_items = asked.model.catalogue.num_items
    for people in asked.cold:
        held = interview(strategy, asked.candidates, people, max(POINTS))
        tasks = [held.after_questions(n) for n in POINTS]
        lists = [ranking_of(predictor, some, num_items, 10, LIKED_FROM) for some in tasks]
        found = {
            "mae": np.stack([query_loss(asked.model, some) for some in tasks], 1),
            "full_ndcg@10": np.stack([one["ndcg@10"] for one in lists], 1),
            "answers": np.stack([some.support.lengths.astype(float) for some in tasks], 1),
            "regret": _regret(held),
        }
        for name, value_BP in found.items():
            parts.setdefault(name, []).append(value_BP)
    # Whoever liked nothing of what is predicted has no list to judge.
    return {name: np.nanmean(np.stack(values), 0) for name, values in parts.items()}


def _regret(held: Interview) -> Float64Array:
    """Return (B, P) how many more of the items shown so far could have been known and liked."""
    answers = held.people.answers
    is_liked = answers.value >= LIKED_FROM
    likeable_B = np.bincount(answers.task, is_liked, minlength=len(held.people))
    columns = []
    for n in POINTS:
        shown = is_liked & (held.question_N < n)
        liked_B = np.bincount(answers.task, shown, minlength=len(held.people))
        columns.append(np.minimum(n, likeable_B) - liked_B)
    return np.stack(columns, 1)


def run(data: Path | None = None, seed: int = 0, out: Path = RESULT) -> tuple[dict[str, Any], str]:
    """Return the result, and its tables; the JSON is written to `out`."""
    asked = prepared(data, seed)
    compared, chosen = strategies(asked, seed)
    found = {name: judged(asked, strategy) for name, strategy in compared.items()}
    rows, differences = [], []
    for name, by_metric in found.items():
        for metric, value_BP in by_metric.items():
            common = {"strategy": name, "metric": metric}
            rows += _rows(common, value_BP)
            if name != GREEDY:
                minus_BP = value_BP - found[GREEDY][metric]
                differences += _rows({**common, "minus": GREEDY}, minus_BP)
    result = {
        "title": "What to ask and show a new user, MovieLens 100K",
        "rules": RULES,
        "command": "python -m benchmarks.exploration questions",
        "users": len(asked.cold[0]),
        "chosen": chosen,
        "rows": rows,
        "differences": differences,
    }
    out.write_text(to_text(result), encoding="utf-8")
    return result, report(result)


def _rows(common: Mapping[str, Any], value_BP: Float64Array) -> list[dict[str, Any]]:
    intervals = mean_intervals(value_BP, np.random.default_rng(0))
    return [
        {
            **common,
            "questions": n,
            **{k: round(getattr(one, k), 4) for k in ("mean", "ci_low", "ci_high")},
            "num_users": one.num_users,
        }
        for n, one in zip(POINTS, intervals, strict=True)
    ]


def report(result: Mapping[str, Any]) -> str:
    """Return a table per metric, by number of questions."""
    parts = [f"# {result['title']}", result["rules"]]
    for metric in dict.fromkeys(row["metric"] for row in result["rows"]):
        own = [row for row in result["rows"] if row["metric"] == metric]
        cells = [
            [name, *(f"{row['mean']:.4f}" for row in own if row["strategy"] == name)]
            for name in dict.fromkeys(row["strategy"] for row in own)
        ]
        parts.append(table([f"`{metric}` after", *map(str, POINTS)], cells))
    return "\n\n".join(parts) + "\n"
