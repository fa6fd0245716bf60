"""A certificate for the users whose lists are no worse than those of recent popularity.

Learn then test (Angelopoulos, Bates, Candès, Jordan and Lei, Annals of Applied Statistics 2025;
arXiv 2021): the number of answers from which a user gets the model's lists is chosen by tests of
the hypotheses that lists there are worse than popularity's by more than the tolerance. They are
tested in a fixed order, from users with most rows to those with none, each at the full level, until
one cannot be rejected (fixed-sequence testing, which controls the probability of any false
rejection): all users from there on get popular items. Several groups share the level equally.

The test is Student's t, of the mean paired difference of nDCG@10 over the development users. Its
level is exact only in the limit of many users: bounds that hold for any number (Hoeffding and
Bentkus; betting, Waudby-Smith and Ramdas, JRSS B 2024) certify almost nothing with the hundred
development users of a small log. So the level is checked: `border_rate` is how often resamples
certify wrongly.

Legend: B users, S segments by number of rows, G groups.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recmeta import schema
from recmeta.errors import UserError, did_you_mean, listed
from recmeta.evaluation.baseline import ranking_losses
from recmeta.evaluation.baselines.averages.popularity import Popularity, PopularityConfig
from recmeta.evaluation.calibration import SHOTS
from recmeta.evaluation.comparison.bootstrap import MIN_USERS, mean_intervals
from recmeta.evaluation.comparison.jackknife import student_quantile
from recmeta.evaluation.learned import LearnedPredictor
from recmeta.evaluation.predictor import Predictor
from recmeta.metalearn.heads.certificate import Certificate, Segment
from recmeta.tasks.arrays import BoolArray, Float64Array
from recmeta.tasks.item_history import ItemHistory
from recmeta.tasks.task_set import Tasks

FEWEST_USERS = 60
"""With fewer development users nothing is certified, and the lists are the model's."""
FEWEST_OF_SEGMENT = 30
"""A segment with fewer users is not judged, and is treated as the segment with fewer rows."""
NUM_FOLDS = 5
"""The number of folds of the development users, each judged by lists that were learned from the
others."""
NUM_RESAMPLES = 1_000
MOST_COLD_USERS = 400
Groups = npt.NDArray[np.object_]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CertificateConfig:
    """The certainty that is required that lists are no worse than those of popularity."""

    level: float = 0.1
    """The largest probability with which some users may get lists that are worse by more than the
    tolerance."""
    tolerance: float = 0.02
    """How much worse than popularity's the lists may be and still count as no worse, in units of
    nDCG@10. With 0, a model that is just as good as popularity is certified with probability
    `level`."""
    attribute: str | None = None
    """A categorical attribute of users; each of its values that enough development users have is
    judged on its own. If None, only numbers of answers count."""

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise UserError(f"certificate.level is {self.level}; it must lie between 0 and 1.")
        if not 0 <= self.tolerance <= 1:
            raise UserError(f"certificate.tolerance is {self.tolerance}; it must be from 0 to 1.")


def certify(
    advantage_BS: Float64Array, value_B: Sequence[str | None] | None, config: CertificateConfig
) -> Certificate | None:
    """Return the certificate, or None if there are too few users.

    Args:
        advantage_BS: the model's nDCG@10 minus that of popularity, with the first 0, 1, 3 and 10
            rows of a user known; NaN for a user with fewer rows. The model must not have learned
            from the user.
        value_B: the users' values of the attribute, or None without an attribute.
    """
    if len(advantage_BS) < FEWEST_USERS:
        return None
    group_B, names = _groups(len(advantage_BS), value_B)
    parts = [advantage_BS[group_B == name] for name in names]
    level = config.level / len(names)
    segments = [
        segment
        for name, part in zip(names, parts, strict=True)
        for segment in _segments(part, name, level, config.tolerance)
    ]
    generator = np.random.default_rng(0)
    wrong = np.zeros((NUM_RESAMPLES, 2), np.bool_)
    for part in parts:
        wrong |= _false_certificates(part, level, config.tolerance, generator)
    violation_rate, border_rate = wrong.mean(0).tolist()
    return Certificate(
        level=config.level,
        tolerance=config.tolerance,
        attribute=None if value_B is None else config.attribute,
        segments=tuple(segments),
        violation_rate=violation_rate,
        border_rate=border_rate,
        num_resamples=NUM_RESAMPLES,
    )


def learn_certificate(
    without: Callable[[int], Predictor],
    development: Tasks,
    history: ItemHistory,
    half_life_days: float | None,
    liked_from: float,
    config: CertificateConfig,
) -> Certificate | None:
    """Return the certificate of a model's lists, or None if there are too few development users.

    Args:
        without: returns the model with lists whose weights were learned without a fold: without the
            users whose place in `development`, modulo `NUM_FOLDS`, is this number. Choices among a
            few settings (half-life, columns, the share of popularity) may have been made with all
            users.
        half_life_days: the half-life of recent popularity.
        liked_from: the smallest value of a relevant query item.

    Raises:
        UserError: for an attribute that users do not have.
    """
    num_users = len(development)
    if num_users < FEWEST_USERS:
        return None
    popularity = recent_popularity(history, half_life_days)
    advantage_BS = np.empty((num_users, len(SHOTS)))
    for fold in range(NUM_FOLDS):
        here = np.flatnonzero(np.arange(num_users) % NUM_FOLDS == fold)
        some = development.take(here)
        advantage_BS[here] = advantages(
            without(fold), popularity, some, history.num_items, liked_from
        )
    return certify(advantage_BS, attribute_of(development, config.attribute), config)


def advantages(
    predictor: Predictor,
    popularity: Predictor,
    tasks: Tasks,
    num_items: int,
    liked_from: float,
) -> Float64Array:
    """Return (B, S) the nDCG@10 of users' lists by a predictor minus that by popularity, with their
    first 0, 1, 3 and 10 rows known; NaN for users with fewer rows, or who liked nothing.

    Args:
        liked_from: the smallest value of a relevant query item.
    """
    found_BS = np.full((len(tasks), len(SHOTS)), np.nan)
    for place, shots in enumerate(SHOTS):
        enough = np.flatnonzero(tasks.support.lengths >= shots)
        if not len(enough):
            continue
        some = tasks.take(enough).with_shots(shots)
        lost, own = (
            ranking_losses(one, some, num_items, liked_from) for one in (popularity, predictor)
        )
        found_BS[enough, place] = lost - own
    return found_BS


def report(
    certificate: Certificate,
    predictor: LearnedPredictor,
    history: ItemHistory,
    tasks: Tasks,
    liked_from: float,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """Return a certificate with the results of lists on other users, JSON-ready.

    Each segment has `cold`, the interval of the mean advantage of these users with this number of
    rows known, and `cold_users`, their number; both are absent with fewer than two users.

    Args:
        predictor: the model.
        tasks: users who were seen neither by the model nor by the certificate; 400 are taken evenly
            from more.
        generator: draws the resamples.
    """
    if len(tasks) > MOST_COLD_USERS:
        tasks = tasks.take(np.linspace(0, len(tasks) - 1, MOST_COLD_USERS).astype(np.int64))
    popularity = recent_popularity(history, predictor.scorer.lists.half_life_days)
    num_items = predictor.scorer.model.catalogue.num_items
    cold_BS = advantages(predictor, popularity, tasks, num_items, liked_from)
    value_B = certificate.values(tasks.profile)
    found = dataclasses.asdict(certificate)
    named = {segment.value for segment in certificate.segments}
    group_B = np.array(
        [None] * len(tasks)
        if value_B is None
        else [value if value in named else None for value in value_B],
        object,
    )
    for segment in found["segments"]:
        column_B = cold_BS[group_B == segment["value"], SHOTS.index(segment["fewest"])]
        column_B = column_B[~np.isnan(column_B)]
        segment["cold_users"], segment["cold"] = len(column_B), None
        if len(column_B) >= MIN_USERS:
            segment["cold"] = dataclasses.asdict(mean_intervals(column_B[:, None], generator)[0])
    found["segments"] = list(found["segments"])
    return found


def recent_popularity(history: ItemHistory, half_life_days: float | None) -> Popularity:
    """Return the predictor that lists fall back on: recent popularity at a user's cut time."""
    half_life = half_life_days if history.has_times else None
    return Popularity(history, PopularityConfig(half_life_days=half_life))


def attribute_of(
    tasks: Tasks, attribute: str | None, key: str = "certificate.attribute"
) -> list[str | None] | None:
    """Return users' values of an attribute as text, or None if no attribute is configured.

    Args:
        key: the configuration's, for messages.

    Raises:
        UserError: if users have no such attribute, or it has several values per user.
    """
    if attribute is None:
        return None
    known = [name for name in tasks.profile.column_names if name != schema.USER_ID]
    if attribute not in known:
        raise UserError(
            f"{key} is {attribute!r}, which users do not have."
            f"{did_you_mean(attribute, known)} They have: {listed(known)}."
        )
    kind = tasks.profile[attribute].type
    if pa.types.is_nested(kind):
        raise UserError(
            f"{key} is {attribute!r}, of which a user may have several values: "
            "name a categorical attribute."
        )
    values: list[str | None] = tasks.profile[attribute].cast(pa.string()).to_pylist()
    return values


def _groups(
    num_users: int, value_B: Sequence[str | None] | None
) -> tuple[Groups, list[str | None]]:
    """Return (B,) each user's group, and the groups. The group of all other users is None, and
    always exists."""
    group_B = np.full(num_users, None, object)
    if value_B is None:
        return group_B, [None]
    own_B = np.array(list(value_B), object)
    names = sorted({value for value in value_B if value is not None})
    kept = [name for name in names if np.sum(own_B == name) >= FEWEST_USERS]
    for name in kept:
        group_B[own_B == name] = name
    return group_B, [None, *kept]


def _segments(
    advantage_BS: Float64Array, value: str | None, level: float, tolerance: float
) -> list[Segment]:
    """Return the segments of a group, tested in order."""
    count_S, mean_S, low_S = _bounds(advantage_BS[None], level)
    certified_S = _in_sequence(count_S, low_S, tolerance)[0]
    return [
        Segment(
            fewest=shots,
            value=value,
            num_users=int(count_S[0, place]),
            advantage=float(mean_S[0, place]),
            at_least=float(low_S[0, place]) if np.isfinite(low_S[0, place]) else None,
            is_certified=bool(certified_S[place]),
        )
        for place, shots in enumerate(SHOTS)
        if count_S[0, place] >= FEWEST_OF_SEGMENT or place == 0
    ]


def _bounds(
    advantage_RBS: Float64Array, level: float
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return (R, S) the number of users of each resample with an advantage, its mean, and its
    one-sided lower bound; 0 and -inf without users."""
    present_RBS = ~np.isnan(advantage_RBS)
    count_RS = present_RBS.sum(1).astype(np.float64)
    many_RS = np.maximum(count_RS, 2)
    mean_RS = np.where(present_RBS, advantage_RBS, 0).sum(1) / np.maximum(count_RS, 1)
    off_RBS = np.where(present_RBS, advantage_RBS - mean_RS[:, None], 0)
    error_RS = np.sqrt((off_RBS**2).sum(1) / (many_RS - 1) / many_RS)
    factors = {int(n): student_quantile(1 - level, int(n) - 1) for n in np.unique(many_RS)}
    factor_RS = np.vectorize(factors.__getitem__, otypes=[float])(many_RS.astype(np.int64))
    low_RS = np.where(count_RS >= FEWEST_OF_SEGMENT, mean_RS - factor_RS * error_RS, -np.inf)
    return count_RS, mean_RS, low_RS


def _in_sequence(count_RS: Float64Array, low_RS: Float64Array, tolerance: float) -> BoolArray:
    """Return (R, S) which segments are certified: those whose lower bound is above minus the
    tolerance, as are those of all judged segments with more rows."""
    passes_RS = (low_RS >= -tolerance) | (count_RS < FEWEST_OF_SEGMENT)
    from_here_RS = np.logical_and.accumulate(passes_RS[:, ::-1], axis=1)[:, ::-1]
    certified: BoolArray = from_here_RS & (count_RS >= FEWEST_OF_SEGMENT)
    return certified


def _false_certificates(
    advantage_BS: Float64Array, level: float, tolerance: float, generator: np.random.Generator
) -> BoolArray:
    """Return (R, 2) whether a resample of users certifies a segment that is worse than the
    tolerance allows: for these users, and if every segment were worse by exactly the tolerance."""
    num_users = len(advantage_BS)
    drawn_RB = generator.integers(num_users, size=(NUM_RESAMPLES, num_users))
    count_S, mean_S, _ = _bounds(advantage_BS[None], level)
    border_BS = advantage_BS - mean_S - tolerance
    found = np.zeros((NUM_RESAMPLES, 2), np.bool_)
    for column, (values_BS, is_wrong_S) in enumerate(
        ((advantage_BS, mean_S[0] < -tolerance), (border_BS, count_S[0] > 0))
    ):
        for start in range(0, NUM_RESAMPLES, 100):
            part = slice(start, start + 100)
            count_RS, _, low_RS = _bounds(values_BS[drawn_RB[part]], level)
            certified_RS = _in_sequence(count_RS, low_RS, tolerance)
            found[part, column] = (certified_RS & is_wrong_S).any(1)
    return found
