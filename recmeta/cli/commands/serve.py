"""serve: the champion behind HTTP."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions, FeatureStore, RuleOptions
from recmeta.cli.output import Outcome, tell
from recmeta.errors import UserError

Host = Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 is all of this machine's.")]
Port = Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen at.")]
Keys = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="API keys, a line NAME:KEY each. [default: those in RECMETA_API_KEYS]",
    ),
]
NoAuth = Annotated[
    bool,
    typer.Option(
        "--no-auth", help="Let in without a key whoever is on this machine; to try it out."
    ),
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="KEY=VALUE",
        help="A limit of the endpoint, such as max_connections=500; may be given several times. "
        "docs/how-to/serving.md lists them.",
    ),
]


def serve(
    common: CommonOptions,
    rules: RuleOptions,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    api_keys: Keys = None,
    no_auth: NoAuth = False,
    feature_store: FeatureStore = None,
    history: Annotated[
        bool,
        typer.Option(
            "--history",
            help="Keep events (POST /v1/events) in the workspace, and have lists for a user_id "
            "begin with what the log and these events say of that user.",
        ),
    ] = False,
    limit: Limits = None,
) -> Outcome:
    """Answer requests with the champion, adapted to each user, until a signal stops it.

    A new champion takes over without a request being dropped. `/` is a page to try it.
    """
    from recmeta.endpoint.guard.keys import exposure, guard, read_keys
    from recmeta.extras import require

    keys = guard(read_keys(api_keys), no_auth=no_auth, host=host)
    exposed = exposure(api_keys)
    if exposed:
        tell(exposed, kind="warning")
    rules.check()
    require("fastapi", "uvicorn", "httptools", "prometheus_client")
    from recmeta.config import merged, parse, to_dict
    from recmeta.endpoint.config import EndpointConfig
    from recmeta.endpoint.server import bound

    config = parse(EndpointConfig, _given(limit or []), "--limit")
    from recmeta.endpoint.answers.champion import RegistrySource
    from recmeta.endpoint.answers.online import online_profiles_of
    from recmeta.endpoint.app import create_app
    from recmeta.endpoint.events.histories import UserHistories
    from recmeta.endpoint.server import serve as run
    from recmeta.recipes.configuration import pipeline_config
    from recmeta.serving.ranking import ScoringConfig

    with bound(host, port) as socket:
        base = to_dict(pipeline_config(path=rules.config).score)
        scoring = parse(ScoringConfig, merged(base, {"rules": rules.given()}))
        online = None if feature_store is None else online_profiles_of(feature_store)
        workspace = common.open_workspace()
        histories = UserHistories(workspace) if history else None
        source = RegistrySource(workspace, scoring)
        app = create_app(
            source,
            keys=keys,
            config=config,
            online=online,
            workspace=workspace,
            histories=histories,
            first=source.first(seconds=config.trial_seconds),
        )
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        tell(f"serving at {address}; stop with Ctrl-C.")
        run(app, socket, config)
    return Outcome(data={"stopped": address}, text=f"stopped: {address}")


def _given(limits: Sequence[str]) -> dict[str, Any]:
    """Return limits by name, with values as TOML has them.

    Raises:
        UserError: for one that is not KEY=VALUE.
    """
    found: dict[str, Any] = {}
    for limit in limits:
        try:
            found |= tomllib.loads(limit)
        except tomllib.TOMLDecodeError as error:
            raise UserError(
                f"--limit {limit} is not KEY=VALUE with a number or a list as the value, such as "
                "max_connections=500 or 'proxies=[\"10.0.0.1\"]'."
            ) from error
    return found


COMMAND = Command(
    serve,
    examples="""
recmeta serve --no-auth

recmeta serve --no-auth --history

recmeta serve --host 0.0.0.0 --api-keys keys.txt --limit requests_per_second=200
""",
    after="explain",
)
