"""recmeta: meta-learned recommendations for users who are new.

A log of who did what with which item goes in; out comes a model that has learned how to learn a
user, so that somebody with three ratings gets a list worth having, a moment later and without
training anything again. In seven lines, from frames to explained and measured lists:

    import recmeta
    from recmeta.testing.synthetic import SyntheticConfig, generate

    log = generate(SyntheticConfig(), seed=0)  # frames of your own go here: pandas, Polars or Arrow
    ratings, items, users = log.interactions, log.items, log.users

    data = recmeta.Dataset.from_frame(ratings, items=items, users=users)   # checks every row
    model = recmeta.fit(data, learner="bayesian-linear", seed=0)           # in memory
    rows = data.rows("u000")                                               # or of somebody new
    lists = model.recommend(rows, top_k=10)                                # of the frames' library
    why = model.explain(rows, lists["item_id"][0])                         # exact effects
    result = recmeta.evaluate(model, data)                                 # on users it never saw
    model.save("my-model")                                                 # recmeta.load reads it

The frame of ratings has a row per interaction, with the columns `user_id`, `item_id` and, where
there are such, `timestamp` and `value`; other names are given by keyword (`value="stars"`), and so
is the range of the values (`scale=(1, 5)`). Without values every row is a click. The frames of
items and users have a column of their ids and any attributes; `title` is what lists call an item.
Rows that break a rule are in `data.quarantine`, with the rules, and counted in `data.counts`.

    model.predict(rows, ["i000", "i001"])    what users would give items, with intervals
    model.adapt(rows)                        users in hand: .recommend, .predict, .explain, .counts
    result.to_frame(), result.curve          metrics with intervals; what each interaction is worth
    result.plot()                            the adaptation curve as a picture
    recmeta.off_policy(served, lists)        what other lists would have earned (OffPolicyResult)
    recmeta.ab_test(rate=…, effect=…, …)     users and days that an A/B test needs (ABTest)

For logs that grow, with tables, schedules, a registry and reports, there is the pipeline, which
does the same by the same functions: `recmeta.run(ratings, workspace="workspace")` here, or
`recmeta run` in a shell; `recmeta.open_workspace("workspace")` shows what is there.

Nothing heavy is imported before a name of this module is used for the first time.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from recmeta.analysis.opening import open_workspace as open_workspace
    from recmeta.api.adapted import Adapted as Adapted
    from recmeta.api.data.dataset import Dataset as Dataset
    from recmeta.api.evaluation import EvaluationResult as EvaluationResult
    from recmeta.api.evaluation import evaluate as evaluate
    from recmeta.api.fit import fit as fit
    from recmeta.api.intake import UnusedRowsWarning as UnusedRowsWarning
    from recmeta.api.load import load as load
    from recmeta.api.off_policy import OffPolicyResult as OffPolicyResult
    from recmeta.api.off_policy import off_policy as off_policy
    from recmeta.api.recommender import Recommender as Recommender
    from recmeta.api.run import run as run
    from recmeta.errors import UserError as UserError
    from recmeta.evaluation.off_policy.power import ABTest as ABTest
    from recmeta.evaluation.off_policy.power import ab_test as ab_test

_HOMES = {
    "ABTest": "recmeta.evaluation.off_policy.power",
    "Adapted": "recmeta.api.adapted",
    "Dataset": "recmeta.api.data.dataset",
    "EvaluationResult": "recmeta.api.evaluation",
    "OffPolicyResult": "recmeta.api.off_policy",
    "Recommender": "recmeta.api.recommender",
    "UnusedRowsWarning": "recmeta.api.intake",
    "UserError": "recmeta.errors",
    "ab_test": "recmeta.evaluation.off_policy.power",
    "evaluate": "recmeta.api.evaluation",
    "fit": "recmeta.api.fit",
    "load": "recmeta.api.load",
    "off_policy": "recmeta.api.off_policy",
    "open_workspace": "recmeta.analysis.opening",
    "run": "recmeta.api.run",
}
"""The module of each public name."""

__all__ = [  # noqa: RUF022  # as a reader meets them
    "Dataset",
    "fit",
    "Recommender",
    "Adapted",
    "evaluate",
    "EvaluationResult",
    "off_policy",
    "OffPolicyResult",
    "ab_test",
    "ABTest",
    "load",
    "run",
    "open_workspace",
    "UserError",
    "UnusedRowsWarning",
    "__version__",
]


def __dir__() -> list[str]:
    """Return the public names, whether they are imported already or not."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Return a public name, and with it all that it needs, when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'recmeta' has no attribute {name!r}")
    from recmeta import extras

    with extras.explained():
        found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found
