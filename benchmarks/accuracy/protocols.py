"""The protocols by name."""

from benchmarks.accuracy import implicit, states, temporal
from benchmarks.accuracy.protocol import Protocol, Published
from benchmarks.accuracy.record import protocols as record

RATING_METRICS = (
    "mae",
    "mae_rounded",
    "rmse",
    *(f"ndcg@{k}_{gain}" for gain in ("linear", "exponential") for k in (1, 3, 5, 10)),
)
RANKING_METRICS = ("ndcg@10", "recall@10")


_MELU = "Lee et al., MeLU, KDD 2019, MeLU-5"
_MELU_DIFFERENCE = (
    "same four states, 13 to 100 ratings and 10 random queries; their query draw is unseeded, "
    "they train on content alone, and their published code has no evaluation"
)
_STATE_RULES = (
    "Learners see the warm users' ratings of warm items: with `filtered`, of users with 13 to 100 "
    "of them; with `all`, all. A cold user has 13 to 100 ratings in the state; 10 of these, drawn "
    "by the seed, are query, all others are support. Hyperparameters are chosen on a tenth of the "
    "filtered warm users, held out (for warm items), and on the warm users' ratings of a quarter "
    "of the warm items, held out (for new items); baselines are then fitted to all warm rows, "
    "meta-learners keep the held-out users for early stopping."
)

NEW_BOOKS_FROM = 1998
"""The year that MeLU's authors divide books at, as their paper describes it."""


def _temporal(named: str, dataset: str) -> Protocol:
    return Protocol(
        title=f"Time order and shots, {named}",
        dataset=dataset,
        objective="rating",
        prepare=lambda log: log,
        problem=temporal.problem,
        cold_users=temporal.cold_users,
        module="benchmarks.accuracy.temporal",
        trainings=("all",),
        metrics=RATING_METRICS,
        rules="The fifth of the users who appear last are cold; learners see the ratings before "
        "the first of them appears. A cold user's first k ratings are support, k = 0, 1, 2, 3, 5, "
        "10, 20; the 10 to 20 ratings after the 20th are query, the same for every k, and users "
        "with fewer are left out. Hyperparameters are chosen on the tenth of the earlier users who "
        "appear last, at all k at once. Cold users and queries do not depend on the seed; what "
        "learners draw does.",
    )


PROTOCOLS: dict[str, Protocol] = {
    "melu-ml1m": Protocol(
        title="MeLU's four states, MovieLens 1M",
        dataset="ml-1m",
        objective="rating",
        prepare=lambda log: log,
        problem=states.problem,
        cold_users=states.cold_users,
        module="benchmarks.accuracy.states",
        trainings=("filtered", "all"),
        metrics=RATING_METRICS,
        rules=_STATE_RULES + " The states are those of MeLU's own files.",
        published=tuple(
            Published(
                learner="MeLU-5",
                state=state,
                metric="mae",
                value=value,
                source=_MELU,
                difference=_MELU_DIFFERENCE,
            )
            for state, value in zip(states.COLD_STATES, (0.785, 0.928, 0.924), strict=True)
        ),
    ),
    "melu-book-crossing": Protocol(
        title="MeLU's four states, Book-Crossing (core)",
        dataset="book-crossing",
        objective="rating",
        prepare=lambda log: states.with_states(log, NEW_BOOKS_FROM),
        problem=states.problem,
        cold_users=states.cold_users,
        module="benchmarks.accuracy.states",
        trainings=("filtered", "all"),
        metrics=RATING_METRICS,
        rules=_STATE_RULES
        + f" A user is new where a stable hash of the id falls into a fifth; a book is new that "
        f"came out in {NEW_BOOKS_FROM} or later. The data are the core part, 230,936 of the "
        "433,671 explicit ratings, so that no published number compares.",
    ),
    "temporal-ml100k": _temporal("MovieLens 100K", "ml-100k"),
    "temporal-ml1m": _temporal("MovieLens 1M", "ml-1m"),
    "implicit-online-retail": Protocol(
        title="Implicit feedback in time order, Online Retail",
        dataset="online-retail",
        objective="implicit",
        prepare=lambda log: log,
        problem=implicit.baskets_problem,
        cold_users=implicit.baskets_cold_users,
        module="benchmarks.accuracy.implicit",
        trainings=("all",),
        metrics=RANKING_METRICS,
        rules="The fifth of the customers who appear last are cold; learners see the purchases "
        "before the first of them appears. A cold customer's first basket is support, the new "
        "products of all later baskets are query; who never came again for something new is left "
        "out. The whole catalogue less the support is ranked; ties go against the relevant "
        "product. Hyperparameters are chosen on the fifth of the earlier customers who appear "
        "last.",
    ),
    "implicit-lastfm": Protocol(
        title="Implicit feedback, Last.FM (HetRec 2011)",
        dataset="lastfm-hetrec",
        objective="implicit",
        prepare=lambda log: log,
        problem=implicit.random_problem,
        cold_users=implicit.random_cold_users,
        module="benchmarks.accuracy.implicit",
        trainings=("all",),
        metrics=RANKING_METRICS,
        rules="A fifth of the users, drawn by the seed, is cold; 10 random artists of each are "
        "query, all others support. The whole catalogue less the support is ranked; ties go "
        "against the relevant artist. Hyperparameters are chosen on a tenth of the other users, "
        "held out.",
    ),
    **record.PROTOCOLS,
}
