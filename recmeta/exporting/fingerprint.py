"""What tells the scores of one model from those of any other."""

import hashlib
import json

import pyarrow as pa

from recmeta.metalearn.model import Model


def fingerprint(model: Model) -> str:
    """Return a text that is the same for two models only if they score the same items alike: of
    their parameters and vocabularies, of what orders their lists, and of their catalogues."""
    lists, items = model.lists, model.catalogue.items
    found = hashlib.sha256(model.digest().encode())
    found.update(json.dumps(lists.about(), sort_keys=True).encode())
    for name, tensor in sorted(lists.tensors().items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.schema([("item_id", pa.string())])) as writer:
        writer.write_table(pa.table({"item_id": items.item_id.cast(pa.string())}))
    found.update(sink.getvalue())
    return found.hexdigest()[:16]
