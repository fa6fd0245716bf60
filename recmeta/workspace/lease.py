"""Leases: the locks of a workspace in an object store, where no kernel knows which owners are
alive.

A lease is an object that only one process can create (PUT with If-None-Match) and that only a
process that has read its newest state can replace (If-Match). Its owner renews it while it works. A
lease that was not renewed for `SECONDS` has expired, and the next process takes it over. If its
owner comes back, it finds out at the next renewal and commits nothing more. S3, Google Cloud
Storage, Azure and the usual servers that speak S3 have such conditions.
"""

import datetime
import json
import os
import threading
from typing import Any

from recmeta import strict_json
from recmeta.errors import UserError
from recmeta.extras import explained
from recmeta.workspace.object_store import CONNECT_SECONDS, REQUEST_SECONDS, RETRY_SECONDS
from recmeta.workspace.owner import Owner

SECONDS = 60.0
"""How long a lease holds without being renewed."""
RENEWALS = 4
"""How often it is renewed in that time."""
MAX_CLOCK_SKEW = 30.0
"""Seconds that the clocks of two machines may differ by."""


class Lease:
    """A lease that this process holds, renewed by a thread until `release`. `try_lease` makes
    it."""

    def __init__(self, store: Any, name: str, owner: Owner, etag: str, seconds: float) -> None:
        self._store = store
        self._name = name
        self._owner = owner
        self._etag = etag
        self._seconds = seconds
        self._lost = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease {name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise UserError if another owner took the lease because this one was not renewed."""
        if self._lost:
            raise UserError(
                f"the lease {self._name} of the workspace was lost: it could not be renewed for "
                f"{self._seconds:.0f} s, and another command took it. Nothing more was written; "
                "run the command again."
            )

    def release(self) -> None:
        """Give the lease back. A second call does nothing."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        if not self._lost:
            self._put(0.0)

    def _renew(self) -> None:
        while not self._ended.wait(self._seconds / RENEWALS):
            self._put(self._seconds)
            if self._lost:
                return

    def _put(self, seconds: float) -> None:
        import obstore
        from obstore.exceptions import BaseError, NotFoundError, PreconditionError

        try:
            put = obstore.put(
                self._store, self._name, _content(self._owner, seconds), mode={"e_tag": self._etag}
            )
            self._etag = str(put["e_tag"])
        except (PreconditionError, NotFoundError, FileNotFoundError):
            self._lost = True
        except (BaseError, OSError):
            pass  # the store may answer next time; if it does not, another takes the lease


def store_of(location: str) -> Any:
    """Return the object store at a URL; the environment has its credentials and endpoint."""
    with explained():
        from obstore.store import from_url
    return from_url(
        location,
        client_options={
            "allow_http": os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"),
            "timeout": f"{REQUEST_SECONDS}s",
            "connect_timeout": f"{CONNECT_SECONDS}s",
        },
        retry_config={"max_retries": 4, "retry_timeout": datetime.timedelta(seconds=RETRY_SECONDS)},
    )


def try_lease(store: Any, name: str, owner: Owner, seconds: float = SECONDS) -> Lease | None:
    """Return the lease, or None while somebody else holds it.

    Args:
        seconds: how long it holds without being renewed.
    """
    import obstore
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    content = _content(owner, seconds)
    try:
        put = obstore.put(store, name, content, mode="create")
    except (AlreadyExistsError, PreconditionError, FileExistsError):
        found = _read(store, name)
        if found is None:
            return None
        state, etag = found
        if state["expires"] + MAX_CLOCK_SKEW * (state["seconds"] > 0) > _now():
            return None
        try:
            put = obstore.put(store, name, content, mode={"e_tag": etag})
        except (PreconditionError, FileNotFoundError):
            return None  # another was faster
    return Lease(store, name, owner, str(put["e_tag"]), seconds)


def holder(store: Any, name: str) -> Owner | None:
    """Return who holds a lease; None if nobody does, or its object cannot be understood."""
    found = _read(store, name)
    if found is None or found[0]["expires"] + MAX_CLOCK_SKEW < _now() or not found[0]["seconds"]:
        return None
    return Owner.read(json.dumps(found[0]["owner"]).encode())


def names_of(store: Any, folder: str, prefix: str) -> list[str]:
    """Return the leases in a folder whose names have a prefix, held or not."""
    import obstore

    found = (str(o["path"]) for part in obstore.list(store, folder) for o in part)
    names = (path.rpartition("/")[2] for path in found)
    return sorted(name for name in names if name.startswith(prefix))


def delete(store: Any, name: str) -> None:
    """Delete the object of a lease that nobody holds."""
    import obstore

    obstore.delete(store, name)


def _content(owner: Owner, seconds: float) -> bytes:
    state = {
        "owner": json.loads(owner.to_bytes()),
        "seconds": seconds,  # 0: given back
        "expires": _now() + seconds if seconds else 0.0,
    }
    return json.dumps(state).encode()


def _read(store: Any, name: str) -> tuple[dict[str, Any], str] | None:
    import obstore

    try:
        found = obstore.get(store, name)
        state = strict_json.loads(bytes(found.bytes()))
        return {n: state[n] for n in ("owner", "seconds", "expires")}, str(found.meta["e_tag"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _now() -> float:
    return datetime.datetime.now(datetime.UTC).timestamp()
