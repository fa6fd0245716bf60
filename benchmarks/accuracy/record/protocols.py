"""The protocols of the record by name, with what their papers publish."""

from benchmarks.accuracy.protocol import Protocol, Published
from benchmarks.accuracy.record import contexts, strong
from benchmarks.accuracy.record.held_out_users import (
    METAREC,
    TANP,
    metarec_metrics,
    tanp_metrics,
)
from benchmarks.accuracy.states import COLD_STATES

ERRORS = ("mae", "mae_rounded", "rmse")
OF_RATINGS = (
    *("global-mean", "popularity", "item-mean-user-bias", "item-knn", "ease", "content-ridge"),
    *("boosted-trees", "melu-published", "maml", "bayesian-linear"),
)
OF_LISTS = ("popularity", "item-knn", "ease", "ials", "maml", "bayesian-linear", "weighted-ridge")

_CHOICE = (
    "Hyperparameters are chosen on {choosers}; baselines are then fitted to them, too, while "
    "meta-learners keep them for early stopping. What is equal, predicted or rated, is put in "
    "order at random, and {drawn} is averaged over 20 such orders."
)

_METAREC_TABLE = "RecBole-MetaRec, table for MovieLens 100K at commit 8627f14"
_METAREC_DIFFERENCE = (
    "one split, about 58 cold users, no interval; of equal ratings its order of the rows decides "
    "which are relevant; the project has removed the table since"
)
_METAREC = {
    "MeLU (first order)": (0.5345, 0.5331, 0.7359),
    "MAMO": (0.6103, 0.5929, 0.7144),
    "TaNP": (0.5806, 0.5994, 0.8070),
}
_HIRE_TABLE = "Fang et al., HIRE, ICDE 2025, table III"
_HIRE_DIFFERENCE = (
    "the released test scores every user of a context, and the ratings that were shown, too, and "
    "lists what is predicted best several times (below)"
)
_HIRE = {
    "user_cold": {
        "Popularity": (0.5820, 0.8540, 0.4738),
        "TaNP": (0.5715, 0.8718, 0.4728),
        "MeLU": (0.5093, 0.6254, 0.4011),
        "HIRE": (0.6999, 0.9169, 0.6454),
    },
    "item_cold": {
        "Popularity": (0.5708, 0.8614, 0.4913),
        "TaNP": (0.4068, 0.7564, 0.2720),
        "MeLU": (0.4893, 0.5920, 0.3666),
        "HIRE": (0.5989, 0.8640, 0.5304),
    },
    "user_and_item_cold": {
        "Popularity": (0.5524, 0.8610, 0.4713),
        "TaNP": (0.4114, 0.7663, 0.2813),
        "MeLU": (0.4680, 0.5692, 0.3393),
        "HIRE": (0.6030, 0.8693, 0.5362),
    },
}

PROTOCOLS: dict[str, Protocol] = {
    "metarec-ml100k": Protocol(
        title="RecBole-MetaRec's split, MovieLens 100K",
        dataset="ml-100k",
        objective="rating",
        prepare=lambda log: log,
        problem=METAREC.problem,
        cold_users=METAREC.cold_users,
        module="benchmarks.accuracy.record.held_out_users",
        trainings=("filtered",),
        metrics=(
            *("ndcg@5_linear", *ERRORS, "precision@5"),
            *("drawn_precision@5", "drawn_ndcg@5", "drawn_mrr@5"),
        ),
        query_metrics=metarec_metrics,
        learners=OF_RATINGS,
        is_of_the_record=True,
        rules="Of the users with 13 to 100 ratings eight tenths train, a tenth chooses and a tenth "
        "is cold, drawn by the seed. Ten random ratings of a cold user are query, the others "
        "support. "
        + _CHOICE.format(choosers="the tenth that chooses", drawn="every `drawn_` metric")
        + " `drawn_precision@5`, `drawn_ndcg@5` and `drawn_mrr@5` are the project's own: relevant "
        "are exactly five of the ten items, those rated highest, drawn among equals. A list in "
        "random order has 0.500, 0.500 and 0.704 (`global-mean` is one); its recall@5 is the same "
        "number as its precision@5, and its hit rate@5 is 0.996 for such a list, so that neither "
        "is repeated.",
        published=tuple(
            Published(
                learner=learner,
                state="user_cold",
                metric=metric,
                value=value,
                source=_METAREC_TABLE,
                difference=_METAREC_DIFFERENCE,
            )
            for learner, values in _METAREC.items()
            for metric, value in zip(
                ("drawn_precision@5", "drawn_ndcg@5", "drawn_mrr@5"), values, strict=True
            )
        ),
    ),
    "strong-ml1m": Protocol(
        title="Strong generalisation, MovieLens 1M",
        dataset="ml-1m",
        objective="implicit",
        prepare=strong.liked,
        problem=strong.problem,
        cold_users=strong.cold_users,
        module="benchmarks.accuracy.record.strong",
        trainings=("all",),
        metrics=("ndcg@100", "recall@20", "recall@50"),
        list_metrics=strong.metrics,
        learners=OF_LISTS,
        is_of_the_record=True,
        rules="As Liang et al. (Mult-VAE, WWW 2018) do it: a rating of four or five is a taken "
        "item; users have at least five. A tenth of the users is cold and a tenth chooses "
        "hyperparameters (by nDCG@10), drawn by the seed. A random fifth of a cold user's items is "
        "query, the others are support; items that no training user took are left out. The whole "
        "catalogue less the support is ranked. Recall@k is over the smaller of k and the number of "
        "query items.",
    ),
    "tanp-ml1m": Protocol(
        title="TaNP's split, MovieLens 1M",
        dataset="ml-1m",
        objective="rating",
        prepare=lambda log: log,
        problem=TANP.problem,
        cold_users=TANP.cold_users,
        module="benchmarks.accuracy.record.held_out_users",
        trainings=("filtered",),
        metrics=(
            *("ndcg@5_exponential", "ndcg@10_exponential", *ERRORS),
            *(f"{name}@{k}" for k in (5, 7) for name in ("precision", "map")),
        ),
        query_metrics=tanp_metrics,
        learners=OF_RATINGS,
        is_of_the_record=True,
        rules="Of the users with 30 to 200 ratings seven tenths train, a tenth chooses and a fifth "
        "is cold, drawn by the seed (Lin et al., WWW 2021). Twenty random ratings of a cold user "
        "are support, all others query; films that no training user rated are left out, and users "
        "who then have fewer than 30 ratings. "
        + _CHOICE.format(choosers="the tenth that chooses", drawn="precision and MAP")
        + " Precision@10 and MAP@10 are left out: whoever has ten query rows has 1.0 in them for "
        "any order.",
    ),
    "hire-ml1m": Protocol(
        title="HIRE's split, MovieLens 1M",
        dataset="ml-1m",
        objective="rating",
        prepare=lambda log: log,
        problem=contexts.problem,
        cold_users=contexts.cold_users,
        module="benchmarks.accuracy.record.contexts",
        trainings=("warm",),
        metrics=(
            *("ndcg@5_linear", *ERRORS),
            *(f"{name}@{k}" for k in (5, 7, 10) for name in ("precision", "map")),
        ),
        query_metrics=contexts.metrics,
        learners=OF_RATINGS,
        is_of_the_record=True,
        rules="MeLU's four states; learners see all warm ratings. Of a cold user's ratings in a "
        "state, at least 13, the seed draws 32 (all, where there are fewer): three are support, "
        "the others query (Fang et al., ICDE 2025: a tenth, no more than three). "
        + _CHOICE.format(
            choosers="a tenth of the warm users with 13 to 100 ratings, and on the ratings of a "
            "quarter of the warm films for new ones, held out",
            drawn="precision and MAP",
        ),
        published=tuple(
            Published(
                learner=learner,
                state=state,
                metric=metric,
                value=value,
                source=_HIRE_TABLE,
                difference=_HIRE_DIFFERENCE,
            )
            for state in COLD_STATES
            for learner, values in _HIRE[state].items()
            for metric, value in zip(("precision@5", "ndcg@5_linear", "map@5"), values, strict=True)
        ),
    ),
}
"""In order of cost."""
