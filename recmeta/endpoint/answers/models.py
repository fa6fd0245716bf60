"""Requests and answers."""

from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from recmeta.endpoint.config import (
    MAX_FILTERS,
    MAX_ID_LENGTH,
    MAX_INTERACTIONS,
    MAX_NAMED,
    MAX_REASONS,
    MAX_TOP_K,
    MAX_USERS,
)


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("must be ISO 8601 text with a zone, such as 2026-05-01T12:30:00Z")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, str | bool):
        raise ValueError("must be a whole number")
    return value


NOT_BLANK = r"[^\s\x85]"
"""Text with at least one character that is not a space. Dialects of regular expressions disagree
on U+0085."""
Id = Annotated[str, Field(strict=True, min_length=1, max_length=MAX_ID_LENGTH, pattern=NOT_BLANK)]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[int, BeforeValidator(_number)]
"""3 and 3.0, which JSON holds equal, but neither text nor a truth value."""
Name = Annotated[str, Field(max_length=MAX_ID_LENGTH)]
Text = Annotated[str, Field(strict=True, max_length=1_000)]
Words = Annotated[list[Text], Field(max_length=100)]


Instant = Annotated[AwareDatetime, BeforeValidator(_text)]
"""A time as text, with its zone."""


class Body(BaseModel):
    """A part of a request: immutable, without unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Interaction(Body):
    """Something that the user did with an item."""

    item_id: Id = Field(description="As in the catalogue.")
    value: Finite | None = Field(
        default=None,
        description="The rating, within the range that `GET /v1/model` gives. It is not needed if "
        "the model learned from clicks.",
    )
    timestamp: Instant | None = Field(
        default=None, description="The time. Without times, the order of the list counts."
    )


class Range(Body):
    """Numbers from `min` to `max`, both included; one of them may be left out."""

    min: Finite | None = None
    max: Finite | None = None

    @model_validator(mode="after")
    def _is_some(self) -> "Range":
        if self.min is None and self.max is None:
            raise ValueError("needs min or max")
        return self


def _kind_of_filter(value: Any) -> str:
    return "range" if isinstance(value, dict | Range) else "values"


Filter = Annotated[
    Annotated[list[Text], Field(min_length=1, max_length=100), Tag("values")]
    | Annotated[Range, Tag("range")],
    Discriminator(_kind_of_filter),
]
Ids = Annotated[list[Id], Field(max_length=MAX_NAMED)]


class UserBody(Body):
    """The known interactions and profile of a user; nothing of them is kept."""

    interactions: list[Interaction] = Field(
        default=[], max_length=MAX_INTERACTIONS, description="May be empty."
    )
    profile: dict[Name, Finite | Text | Words | None] = Field(
        default={},
        max_length=100,
        description="Attributes by name: `GET /v1/model` lists them. An absent one is unknown.",
    )
    user_id: Id | None = Field(
        default=None,
        description="The user for whom the online feature store is asked for a profile, if one is "
        "configured; its values take precedence over `profile`. If the server keeps histories, the "
        "user's rows in the log and earlier events come first, and `interactions` follow; known "
        "attributes are used for those that `profile` leaves out. `POST /v1/questions` "
        "does not read it.",
    )


class RecommendationRequest(UserBody):
    """A user, and what is asked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "interactions": [
                        {"item_id": "50", "value": 5},
                        {"item_id": "181", "value": 4, "timestamp": "2026-05-01T12:30:00Z"},
                    ],
                    "profile": {"age": 34, "gender": "F"},
                    "top_k": 3,
                }
            ]
        }
    )
    candidates: Annotated[Ids, Field(min_length=1)] | None = Field(
        default=None,
        description="The only items to rank, such as the results of a search. Rules and filters "
        "apply to them, too, and the user's own items stay out.",
    )
    exclude: Ids = Field(default=[], description="Items that the list must not have.")
    filters: dict[Name, Filter] = Field(
        default={},
        max_length=MAX_FILTERS,
        description="For each attribute of items, values of which an item must have one, or a "
        "range of numbers. All filters must hold; an item without a known value does not pass.",
        examples=[{"genres": ["comedy", "drama"], "release_year": {"min": 1990}}],
    )
    top_k: Whole = Field(default=10, ge=1, le=MAX_TOP_K, description="Length of the list.")
    max_reasons: Whole = Field(
        default=3, ge=0, le=MAX_REASONS, description="The most reasons for an item; 0 is fastest."
    )


class RecommendationsRequest(Body):
    """Several users, each as in a request of one."""

    users: list[RecommendationRequest] = Field(min_length=1, max_length=MAX_USERS)


class Reason(BaseModel):
    """An interaction of the user that moved an item's score."""

    because_item: str
    title: str | None = None
    effect: float = Field(
        description="What the interaction adds to the logarithm of the item's likelihood, "
        "beyond what it adds to the items of the list on average."
    )


class Recommendation(BaseModel):
    """One place of the list."""

    rank: int = Field(description="From 1.")
    item_id: str
    title: str | None = None
    relative_likelihood: float = Field(
        description="The probability that the item is taken and liked next, divided by the largest "
        "one of the list: from 0 to 1. The list is in this order, unless rules rearranged it."
    )
    score: float = Field(
        description="For ratings the expected value, which need not fall along the list; for "
        "implicit feedback the logarithm of the likelihood, up to a number that is the same for "
        "all items of a user."
    )
    uncertainty: float | None = Field(
        default=None,
        description="Standard deviation of the expected value, if the model has one.",
    )
    listed_by: Literal["model", "popularity", "exploration"] = Field(
        default="model",
        description="popularity: the place went to a popular item, because the rules require it if "
        "the model is too uncertain. exploration: it went to an item that is tried.",
    )
    propensity: float = Field(
        default=1.0,
        description="The probability that the item is shown at this place: 1 without exploration. "
        "Log it with what the user does, for `recmeta off-policy`.",
    )
    reasons: list[Reason] = Field(default=[], description="The largest effect first.")


class Warning_(BaseModel):
    """Something of the request that did not count."""

    code: Literal[
        "unknown_item",
        "duplicate_item",
        "unknown_value",
        "profile_unavailable",
        "history_unavailable",
    ]
    field: str = Field(description="Its place, such as `interactions[2].item_id`.")
    message: str


class RecommendationAnswer(BaseModel):
    """A user's list."""

    model_version: str
    num_used: int = Field(description="Interactions that the model was adapted to.")
    num_known: int = Field(
        default=0,
        description="Interactions of `user_id` that the server knew, from the log and from events.",
    )
    recommendations: list[Recommendation]
    warnings: list[Warning_] = []


class RecommendationsAnswer(BaseModel):
    """A list for each user."""

    answers: list[RecommendationAnswer] = Field(description="In the order of the users.")


class Item(BaseModel):
    """An item of the catalogue."""

    item_id: str
    title: str | None = None


class ItemsAnswer(BaseModel):
    """What a search found."""

    items: list[Item] = Field(description="Sorted by the number of users, the largest first.")


class SimilarItem(Item):
    """An item that is like another one."""

    similarity: float = Field(description="At most 1; comparable within one answer.")


class SimilarAnswer(BaseModel):
    """Items that are like one."""

    model_version: str
    by: Literal["choices", "neighbours", "attributes"] = Field(
        description="What the similarity is based on. choices: the cosine of the vectors by which "
        "the model predicts what is taken next. neighbours: how strongly the item predicts the "
        "other in the model's table of items that the same users took. attributes: the strength "
        "of shared values of attributes in such a table or, without one, their cosine."
    )
    items: list[SimilarItem] = Field(description="The most similar first.")


class QuestionsRequest(UserBody):
    """A user, and how many items to ask about next."""

    unknown: list[Id] = Field(
        default=[], max_length=500, description="Items that the user said they do not know."
    )
    count: Whole = Field(default=1, ge=1, le=20)


class QuestionsAnswer(BaseModel):
    """What to ask next."""

    model_version: str
    strategy: str = Field(description="The strategy that chose the items, such as greedy-loss.")
    items: list[Item] = Field(description="The item that teaches most comes first.")


class ProfileField(BaseModel):
    """An attribute of users that the model reads."""

    name: str
    kind: Literal["categorical", "multi", "numeric"]
    values: list[str] = Field(
        default=[], description="Up to 100 of the values that the model knows."
    )


class CurvePoint(BaseModel):
    """How good the model is after some interactions."""

    shots: int
    value: float
    low: float | None = None
    high: float | None = None


class Curve(BaseModel):
    """The adaptation curve of the model's evaluation."""

    metric: str
    lower_is_better: bool
    points: list[CurvePoint]


class ModelAnswer(BaseModel):
    """The model that answers."""

    model_version: str
    objective: Literal["rating", "implicit"]
    value_range: tuple[float, float] | None = Field(
        default=None,
        description="Lowest and highest value of an interaction; null for implicit feedback.",
    )
    num_items: int
    profile: list[ProfileField]
    curve: Curve | None = None


class FieldProblem(BaseModel):
    """One field that does not fit."""

    field: str
    message: str


class Problem(BaseModel):
    """Problem details, RFC 9457."""

    title: str
    status: int
    detail: str
    errors: list[FieldProblem] = []


class Health(BaseModel):
    """Whether the endpoint can answer."""

    status: Literal["ok", "no champion yet", "stopping"]
    model_version: str | None = None
    refused_version: str | None = Field(
        default=None, description="A newer version that was tried and is not used."
    )
    reason: str | None = Field(default=None, description="Why it is not.")
