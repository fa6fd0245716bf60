"""The files of checkpoints: one for each epoch, written atomically.

The file of the previous epoch stays beside the newest: training continues from that one if the
newest is damaged.

    checkpoint/epoch-00007.safetensors
    checkpoint/digests.json
"""

import json
import logging
from typing import Any

from recmeta.errors import Broken
from recmeta.workspace import Sealed

CHECKPOINT = "checkpoint"
"""The folder of the checkpoints."""
MOST_CHECKPOINTS = 2
log = logging.getLogger(__name__)


def keep(kept: Sealed, number: int, content: bytes) -> None:
    """Write the checkpoint of an epoch, and delete all but the one before it."""
    kept.write_bytes(f"epoch-{number:05d}.safetensors", content)
    assert kept.digests is not None, "it was resumed"
    for old in sorted(kept.digests)[:-MOST_CHECKPOINTS]:
        kept.delete(old)
    kept.seal()


def newest(kept: Sealed) -> bytes | None:
    """Return the newest undamaged checkpoint, or None if there is none."""
    assert kept.digests is not None, "it was resumed"
    for name in sorted(kept.digests, reverse=True):
        try:
            return kept.read_bytes(name)
        except Broken as error:
            log.warning("training continues from an earlier epoch, or starts again: %s", error)
            kept.digests.pop(name)
    return None


def metadata(content: bytes) -> dict[str, str]:
    """Return the metadata of a safetensors file, whose header is JSON after 8 bytes with its
    length."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    return dict(header["__metadata__"])
