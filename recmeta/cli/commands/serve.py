"""serve: the champion behind HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from recmeta.cli.command import Command
from recmeta.cli.options import CommonOptions, FeatureStore, RuleOptions
from recmeta.cli.output import Outcome, tell

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
Rate = Annotated[
    float | None,
    typer.Option(metavar="N", min=1, help="Requests a second of one key. [default: 1000]"),
]
Queue = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Users that may wait; others get 503. [default: 64]"),
]
Poll = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", min=0.1, help="How often to look for a new champion. [default: 5]"
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
    requests_per_second: Rate = None,
    queue_users: Queue = None,
    poll_seconds: Poll = None,
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
    given = {
        "requests_per_second": requests_per_second,
        "queue_users": queue_users,
        "poll_seconds": poll_seconds,
    }
    rules.check()
    require("fastapi", "uvicorn", "prometheus_client")
    from recmeta.config import merged, parse, to_dict
    from recmeta.endpoint.answers.champion import RegistrySource
    from recmeta.endpoint.answers.online import online_profiles_of
    from recmeta.endpoint.app import create_app
    from recmeta.endpoint.config import EndpointConfig
    from recmeta.endpoint.server import serve as run
    from recmeta.recipes.configuration import pipeline_config
    from recmeta.serving.ranking import ScoringConfig

    base = to_dict(pipeline_config(path=rules.config).score)
    scoring = parse(ScoringConfig, merged(base, {"rules": rules.given()}))
    config = parse(EndpointConfig, {name: v for name, v in given.items() if v is not None})
    online = None if feature_store is None else online_profiles_of(feature_store)
    workspace = common.open_workspace()
    source = RegistrySource(workspace, scoring)
    app = create_app(
        source,
        keys=keys,
        config=config,
        online=online,
        workspace=workspace,
        first=source.first(),
    )
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    tell(f"serving at {address}; stop with Ctrl-C.")
    run(app, host=host, port=port, config=config)
    return Outcome(data={"stopped": address}, text=f"stopped: {address}")


COMMAND = Command(
    serve,
    examples="""
recmeta serve --no-auth

recmeta serve --host 0.0.0.0 --api-keys keys.txt
""",
    after="explain",
)
