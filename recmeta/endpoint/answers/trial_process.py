"""The process in which a new champion is tried: see `trial.py`, which starts it."""

import json
import os
import sys
from typing import Any

import torch

from recmeta.config import parse
from recmeta.endpoint.answers.champion import RegistrySource
from recmeta.endpoint.answers.recommend import Ask, BatchRecommender
from recmeta.endpoint.answers.trial import EXIT_OF_USER
from recmeta.endpoint.operation.metrics import Metrics
from recmeta.errors import UserError
from recmeta.serving.intake import GivenUser
from recmeta.serving.ranking import ScoringConfig
from recmeta.workspace import Workspace


def main(about: dict[str, Any]) -> None:
    """Load a version as the server does, and answer a question with reasons."""
    os.nice(about["niceness"])
    torch.set_num_threads(1)
    scoring = parse(ScoringConfig, about["scoring"])
    champion = RegistrySource(Workspace(about["workspace"]), scoring).load(about["version"])
    graded = champion.model.objective == "rating"
    user = GivenUser(
        item_id=(champion.item_ids[int(champion.popularity.argmax())],),
        value=(champion.model.value_range[1] if graded else None,),
        time=(None,),
    )
    ask = Ask(champion=champion, user=user, user_id=None, top_k=3, max_reasons=1)
    (answer,) = BatchRecommender(None, Metrics(), online_seconds=0.0)([ask])
    assert answer.model_version == about["version"], "the version that was asked for answers"


if __name__ == "__main__":
    try:
        main(json.load(sys.stdin))
    except UserError as error:
        sys.stdout.write(str(error))
        sys.exit(EXIT_OF_USER)
