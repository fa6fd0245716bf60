"""features apply: what the feature repository defines."""

from typing import Annotated

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome, as_list

REPOSITORY = "feature_store"


Repository = Annotated[
    str,
    typer.Option(
        "--feature-store",
        metavar="DIR",
        envvar="RECMETA_FEATURE_STORE",
        help="The Feast repository, or a configuration in it.",
    ),
]


def apply(common: CommonOptions, feature_store: Repository = REPOSITORY) -> Outcome:
    """Register what the feature repository defines over the tables of the workspace."""
    from recmeta.features.feast_repository import find, open_store

    find(feature_store)
    from recmeta.steps.data import materialise_features as step

    step.apply(common.open_workspace(), feature_store)
    store = open_store(feature_store)
    data = {
        "feature_views": sorted(view.name for view in store.list_feature_views()),
        "feature_services": sorted(service.name for service in store.list_feature_services()),
    }
    return Outcome(data=data, text=as_list(data))


COMMAND = Command(apply, examples="recmeta features apply")
