"""power: how many users and days an A/B test needs."""

import dataclasses
from typing import Annotated

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions
from recmeta.cli.output import Outcome, as_list


def power(
    common: CommonOptions,
    effect: Annotated[
        float,
        typer.Option(
            metavar="DIFFERENCE",
            help="The smallest difference worth seeing: 0.005 is half a percentage point.",
        ),
    ],
    users_per_day: Annotated[
        float, typer.Option(metavar="N", help="New users in the test each day, of both groups.")
    ],
    rate: Annotated[
        float | None, typer.Option(help="The share of users with a success today.")
    ] = None,
    deviation: Annotated[
        float | None,
        typer.Option(help="In place of --rate: the standard deviation of a user's number."),
    ] = None,
    level: Annotated[float, typer.Option(help="Of the two-sided test.")] = 0.05,
    power: Annotated[
        float, typer.Option(help="How likely the effect is to be seen, if it is there.")
    ] = 0.8,
    treatment_share: Annotated[
        float, typer.Option(metavar="SHARE", help="Of the users who get what is tested.")
    ] = 0.5,
) -> Outcome:
    """Say how many users and days an A/B test needs to see an effect."""
    from recmeta.evaluation.off_policy.power import ab_test

    found = ab_test(
        effect=effect,
        users_per_day=users_per_day,
        rate=rate,
        deviation=deviation,
        level=level,
        power=power,
        treatment_share=treatment_share,
    )
    data = {**dataclasses.asdict(found), "users": found.users}
    return Outcome(data=data, text=as_list(data))


COMMAND = Command(
    power,
    examples="""
recmeta power --rate 0.05 --effect 0.005 --users-per-day 2000

recmeta power --deviation 12.5 --effect 0.8 --users-per-day 500 --power 0.9
""",
    after="off-policy",
)
