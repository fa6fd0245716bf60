"""The API, version 1."""

import asyncio
import datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response, Security
from fastapi.security import HTTPBearer

from recmeta.endpoint.answers.champion import ServedChampion
from recmeta.endpoint.answers.items import search, similar
from recmeta.endpoint.answers.models import (
    NOT_BLANK,
    Curve,
    CurvePoint,
    ItemsAnswer,
    ModelAnswer,
    Problem,
    ProfileField,
    QuestionsAnswer,
    QuestionsRequest,
    RecommendationAnswer,
    RecommendationRequest,
    RecommendationsAnswer,
    RecommendationsRequest,
    SimilarAnswer,
    UserBody,
    Warning_,
)
from recmeta.endpoint.answers.questions import Inquiry
from recmeta.endpoint.answers.recommend import Ask
from recmeta.endpoint.answers.restrictions import NO_RESTRICTIONS, Restrictions
from recmeta.endpoint.config import MAX_ID_LENGTH
from recmeta.endpoint.guard.http import MORE_PLACES, RETRY_SECONDS
from recmeta.endpoint.guard.problems import retry_after
from recmeta.endpoint.guard.strict_json import StrictJsonRoute
from recmeta.errors import FieldError
from recmeta.serving.intake import GivenUser, Remark

EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)
MICROSECOND = datetime.timedelta(microseconds=1)
MOST_VALUES = 100
MOST_FOUND = 50
_PROBLEM = {"model": Problem, "content": {"application/problem+json": {}}}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, **_PROBLEM}
    for status, text in {
        401: "No valid API key.",
        422: "A parameter or field does not fit; `errors` names it.",
        429: "The key sends too many requests; see `Retry-After`.",
        503: "Too many requests wait, or there is no champion yet; see `Retry-After`.",
    }.items()
}
BODY_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, **_PROBLEM}
    for status, text in {
        400: "The body is not JSON.",
        408: "The body did not arrive in time.",
        413: "The body is too long.",
        415: "The body's type is not JSON.",
    }.items()
}
_key = HTTPBearer(auto_error=False, description="An API key. The gate checks it, before all else.")
KEY = Security(_key)
router = APIRouter(
    prefix="/v1", dependencies=[KEY], route_class=StrictJsonRoute, responses=REFUSALS
)


@router.post(
    "/recommendations",
    response_model=RecommendationAnswer,
    responses=BODY_REFUSALS,
    summary="Recommend items to a user with few known interactions",
)
async def recommendations(request: Request, body: RecommendationRequest) -> Response:
    """Adapt the model to the interactions and the profile, and rank the catalogue for the user.

    Nothing of the user is kept. The user's own items stay out of the list.
    """
    answer = await _answered(request, *await _asked(champion_of(request), body))
    return Response(answer.model_dump_json(), media_type="application/json")


@router.post(
    "/recommendations/batch",
    response_model=RecommendationsAnswer,
    responses=BODY_REFUSALS,
    summary="Recommend items to several users",
)
async def recommendations_of_users(request: Request, body: RecommendationsRequest) -> Response:
    """Return a list for each user. The request counts as that many requests. If one user does not
    fit, the error names that user, and no list is returned."""
    champion = champion_of(request)
    _take_places(request, len(body.users) - 1)
    asked = []
    for place, one in enumerate(body.users):
        try:
            asked.append(await _asked(champion, one))
        except FieldError as error:
            raise FieldError(f"users[{place}].{error.field}", error.message) from None
    answers = await asyncio.gather(*(_answered(request, *one) for one in asked))
    answer = RecommendationsAnswer(answers=answers)
    return Response(answer.model_dump_json(), media_type="application/json")


@router.post(
    "/questions",
    responses=BODY_REFUSALS,
    summary="Choose what to ask a user next",
)
async def questions(request: Request, body: QuestionsRequest) -> QuestionsAnswer:
    """Return the items whose answers teach most about the user, given the answers so far."""
    champion = champion_of(request)
    user = given_user(body)
    champion.intake.check(user)
    inquiry = Inquiry(champion=champion, user=user, unknown=body.unknown, count=body.count)
    answer: QuestionsAnswer = await request.app.state.batcher.submit(inquiry)
    return answer


@router.get("/items", summary="Find items by title")
def items(
    request: Request,
    query: Annotated[str, Query(min_length=1, max_length=MAX_ID_LENGTH, pattern=NOT_BLANK)],
    limit: Annotated[int, Query(ge=1, le=MOST_FOUND)] = 10,
) -> ItemsAnswer:
    """Return items whose title has every word of the query."""
    return ItemsAnswer(items=search(champion_of(request), query, limit))


@router.get(
    "/similar/{item_id:path}",
    summary="Find items that are like one",
    responses={404: {"description": "The catalogue has no such item.", **_PROBLEM}},
)
def similar_items(
    request: Request,
    item_id: Annotated[str, Path(min_length=1, max_length=MAX_ID_LENGTH, pattern=NOT_BLANK)],
    limit: Annotated[int, Query(ge=1, le=MOST_FOUND)] = 10,
) -> SimilarAnswer:
    """Return the items that are most similar to one, the same for everybody; `by` says what the
    similarity is based on."""
    champion = champion_of(request)
    number = champion.intake.number_of.get(item_id.strip())
    if number is None:
        raise HTTPException(404, f"the catalogue has no item {item_id.strip()!r:.80}.")
    return similar(champion, number, limit)


@router.get("/model", summary="Describe the model that answers")
def model(request: Request) -> ModelAnswer:
    """Return the champion's version, the values and attributes that it accepts, and its
    accuracy."""
    champion = champion_of(request)
    found = champion.model
    graded = found.objective == "rating"
    return ModelAnswer(
        model_version=champion.version,
        objective=found.objective,
        value_range=found.value_range if graded else None,
        num_items=found.catalogue.num_items,
        profile=[
            ProfileField(name=f.name, kind=f.kind, values=list(f.values[:MOST_VALUES]))
            for f in found.encoder.user_fields
            if f.kind != "vector"
        ],
        curve=_curve(champion.evaluation),
    )


def champion_of(request: Request) -> ServedChampion:
    """Return the champion that answers now; 503 before the first one."""
    champion: ServedChampion | None = request.app.state.holder.current
    if champion is None:
        request.app.state.metrics.shed.labels("no_champion").inc()
        raise HTTPException(503, "there is no champion yet.", retry_after(5))
    request.state.log["model_version"] = champion.version
    return champion


async def _asked(
    champion: ServedChampion, body: RecommendationRequest
) -> tuple[Ask, list[Warning_]]:
    """Return a user's request, checked, and the parts of it that will not count."""
    user = given_user(body)
    warnings = [_warning(remark) for remark in champion.intake.check(user)]
    wanted = Restrictions(candidates=body.candidates, exclude=body.exclude, filters=body.filters)
    if not wanted.is_any:
        wanted = NO_RESTRICTIONS
    else:  # an attribute is made ready when it is first asked for, which may take a moment
        number_of = champion.intake.number_of
        warnings += await asyncio.to_thread(wanted.check, champion.attributes, number_of)
    ask = Ask(
        champion=champion,
        user=user,
        user_id=None if body.user_id is None else body.user_id.strip(),
        top_k=body.top_k,
        max_reasons=body.max_reasons,
        restrictions=wanted,
    )
    return ask, warnings


async def _answered(request: Request, ask: Ask, warnings: list[Warning_]) -> RecommendationAnswer:
    answer: RecommendationAnswer = await request.app.state.batcher.submit(ask)
    answer.warnings[:0] = warnings
    return answer


def _take_places(request: Request, number: int) -> None:
    """Count a request as this many more.

    Raises:
        HTTPException: if the key may not send so many, or the queue has no room for them.
    """
    state = request.app.state
    key = request.state.log.get("key", "")
    wait = state.rate.seconds_to_wait(key, number) if number else 0.0
    if wait:
        state.metrics.shed.labels("rate").inc()
        raise HTTPException(429, state.rate.detail, retry_after(wait))
    if not state.connections.admission.take_more(number):
        state.metrics.shed.labels("queue").inc()
        detail = "the queue has no room for so many users: try again in a second."
        raise HTTPException(503, detail, retry_after(RETRY_SECONDS))
    setattr(request.state, MORE_PLACES, number)


def given_user(body: UserBody) -> GivenUser:
    """Return the user of a request."""
    rows = body.interactions
    return GivenUser(
        item_id=tuple(row.item_id for row in rows),
        value=tuple(row.value for row in rows),
        time=tuple(
            None if row.timestamp is None else (row.timestamp - EPOCH) // MICROSECOND
            for row in rows
        ),
        profile=body.profile,
    )


def _warning(remark: Remark) -> Warning_:
    said = {
        "unknown_item": f"the catalogue has no item {remark.item_id!r}; it did not count.",
        "duplicate_item": f"a later interaction with the item {remark.item_id!r} counts instead.",
    }
    return Warning_(
        code=remark.kind,
        field=f"interactions[{remark.place}].item_id",
        message=said[remark.kind],
    )


def _curve(evaluation: dict[str, Any] | None) -> Curve | None:
    """Return the candidate's adaptation curve out of evaluation.json: of lists, if it has one."""
    if evaluation is None:
        return None
    found = evaluation.get("list_curve") or evaluation["adaptation_curve"]
    points = found["points"].get(evaluation["candidate"], [])
    return Curve(
        metric=found["metric"],
        lower_is_better=found["lower_is_better"],
        points=[
            CurvePoint(shots=shots, value=p["mean"], low=p["ci_low"], high=p["ci_high"])
            for shots, p in zip(found["shots"], points, strict=True)
            if p["mean"] is not None
        ],
    )
