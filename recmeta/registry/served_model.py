"""The model as MLflow serves it: a pandas frame of new users' interactions in, ranked items out."""

from typing import Any

import pandas as pd
import pyarrow as pa
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext

from recmeta.config import parse
from recmeta.metalearn.model import Model
from recmeta.metalearn.scorer import Scorer
from recmeta.registry.frames import tasks_of_frame
from recmeta.serving.list_table import lists
from recmeta.serving.ranking import ScoringConfig
from recmeta.workspace import Folder

ARTIFACT = "model"
"""The name of the artifact that is the model's folder."""


class ServedRecommender(PythonModel):  # type: ignore[misc]  # MLflow is not typed
    """Adapts to users as they arrive and ranks the catalogue for each of them.

    A row of the input is one interaction: `user_id`, `item_id`, for ratings `value`, and optionally
    `timestamp` (a time, ISO 8601 text or a number). A row without an item only names a user, who
    needs no other row. Any other column that the model knows as a user's attribute describes the
    user; the first of the user's rows that has the attribute counts.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Read the model from the artifacts."""
        self.scorer = Scorer.of(Model.load(Folder.at(context.artifacts[ARTIFACT])))
        self.titles = self.scorer.model.catalogue.items.titles()

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return the lists of all users, sorted by user and rank.

        Args:
            params: `top_k`, the length of a list (10), and `exclude_seen`, whether a user's own
                items stay out of it (true).

        Returns:
            `user_id`, `rank` (from 1), `item_id`, `title` where the catalogue has titles, and
            `score`, in units of the value for ratings, a logit for implicit feedback.

        Raises:
            MlflowException: for input that cannot be read; a server answers 400.
        """
        try:
            return recommend(self.scorer, model_input, self.titles, params or {})
        except (ValueError, pa.ArrowException) as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


def recommend(
    scorer: Scorer, frame: pd.DataFrame, titles: pa.Array | None, params: dict[str, Any]
) -> pd.DataFrame:
    """Return the result of `ServedRecommender.predict`.

    Raises:
        UserError: if a column is missing or of mixed types, or a user has no id.
        ValueError: if a parameter is out of its range.
    """
    config = parse(ScoringConfig, params)
    tasks = tasks_of_frame(scorer.model, frame)
    found = [lists(scorer, some, titles, config) for some in tasks.batches(config.user_batch)]
    return pa.concat_tables(found).to_pandas()
