"""A registered model in an analyst's hands: adapt to users, recommend, predict, explain, ask.

>>> import pandas as pd
>>> import recmeta
>>> champion = recmeta.open_workspace("workspace").champion
>>> known = champion.popular_items(2)["item_id"]
>>> users = champion.adapt(pd.DataFrame({"user_id": "me", "item_id": known, "value": [5.0, 1.0]}))
>>> users
Adapted(1 user, 2 interactions)
>>> users.recommend(top_k=3)["rank"].tolist()
[1, 2, 3]
"""

import functools
from typing import Any

import pandas as pd

from recmeta.api.adapted import Adapted
from recmeta.api.arguments import id_text
from recmeta.api.data.frames import Kind
from recmeta.api.recommender import Recommender
from recmeta.manifest import Manifest
from recmeta.metalearn.model import Model
from recmeta.registry.models.versions import Version
from recmeta.reporting import evidence as evidence_report
from recmeta.reporting.picture import Picture
from recmeta.steps.serving import evidence
from recmeta.steps.serving.evidence import EvidenceOutputs
from recmeta.steps.serving.explain import user_of_log
from recmeta.workspace import Workspace, sealed


class RegisteredModel(Recommender[pd.DataFrame]):
    """One version of the registered model: a recommender that knows its workspace."""

    def __init__(self, workspace: Workspace, version: Version, model: Model) -> None:
        super().__init__(model)
        self.workspace = workspace
        self.version = version

    def __repr__(self) -> str:
        return (
            f"RegisteredModel(version={self.version.version!r}, {self.model.config.learner_name})"
        )

    def user(self, user_id: Any) -> Adapted[pd.DataFrame]:
        """Return a user of the workspace's log, adapted to all of their interactions.

        >>> import recmeta
        >>> workspace = recmeta.open_workspace("workspace")
        >>> workspace.champion.user(workspace.tasks("test")["user_id"][0])
        Adapted(1 user, ... interactions)
        """
        tasks = user_of_log(self.workspace, self.model, id_text(user_id, "user_id"))
        return Adapted(self.model, tasks, kind="pandas")

    @property
    def _kind(self) -> Kind:
        return "pandas"

    # Asking --------------------------------------------------------------------------------------

    def questions(self, strategy: str | None = None, count: int = 10) -> pd.DataFrame:
        """Return items to ask a new user about: `strategy`, `place`, `item_id`, `title`.

        The first call takes minutes on a large log, because it tries answers on the training users.

        Args:
            strategy: the name of a strategy (docs/how-to/evidence.md). If None, the frame has rows
                for every strategy that applies.
            count: the number of items for each strategy.
        """
        found = evidence.first_questions(self.workspace, self._questionnaire, strategy, count)
        rows = [
            {"strategy": name, "place": place, **question}
            for name, questions in found.items()
            for place, question in enumerate(questions, start=1)
        ]
        return pd.DataFrame(rows)

    def simulate_questions(self) -> pd.DataFrame:
        """Return what the answers of the cold users were worth: a row per strategy and number of
        questions, with `mae`, `ndcg`, `answers` and the intervals of the MAE."""
        found = self._simulation
        rows = []
        for name, strategy in found["strategies"].items():
            measured = strategy["by_questions"]
            for place, asked in enumerate(found["questions"]):
                row = {"strategy": name, "questions": asked}
                row |= {metric: points[place]["mean"] for metric, points in measured.items()}
                row |= {n: measured["mae"][place][n] for n in ("ci_low", "ci_high")}
                less = strategy["mae_less_popularity"][place]
                row |= {"less_popularity": less["mean"]}
                row |= {f"less_{n}": less[n] for n in ("ci_low", "ci_high")}
                rows.append(row)
        return pd.DataFrame(rows)

    def plot_questions(self) -> Picture:
        """Return a picture of that simulation."""
        return Picture(evidence_report.plot(self._simulation))

    @property
    def recommended_strategy(self) -> str:
        """The strategy that was best on development users."""
        name: str = self._questionnaire.outputs.recommended
        return name

    @functools.cached_property
    def _questionnaire(self) -> Manifest[EvidenceOutputs]:
        return evidence.run(evidence.EvidenceConfig(), self.workspace, version=self.version)

    @functools.cached_property
    def _simulation(self) -> dict[str, Any]:
        made = self._questionnaire
        simulated = evidence.simulate(evidence.EvidenceConfig().trial, self.workspace, made)
        folder = sealed(self.workspace / simulated.outputs.report)
        found: dict[str, Any] = folder.read_json("simulation.json")
        return found
