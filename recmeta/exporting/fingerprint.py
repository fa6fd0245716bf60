"""The fingerprint that distinguishes the scores of one model from those of any other."""

import hashlib
import json

import numpy as np
import pyarrow as pa

from recmeta.metalearn.model import Model


def fingerprint(model: Model) -> str:
    """Return a text that is the same for two models only if they score the same items alike: of
    their parameters and vocabularies, of what orders their lists, and of their catalogues."""
    lists, past = model.lists, model.catalogue.statistics
    found = hashlib.sha256(model.digest().encode())
    found.update(json.dumps(lists.about(), sort_keys=True).encode())
    for name, tensor in sorted(lists.tensors().items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    for number_TI in (past.num_users, past.sum_values):
        found.update(np.ascontiguousarray(number_TI[-1], np.float32).tobytes())
    items = _items(model)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, items.schema) as writer:
        writer.write_table(items)
    found.update(sink.getvalue())
    return found.hexdigest()[:16]


def _items(model: Model) -> pa.Table:
    """Return the ids of the items, and their newest values of the attributes that a model reads."""
    items = model.catalogue.items
    attributes, newest = items.attributes, pa.array(items.newest())
    read = [f.name for f in model.encoder.item_fields if f.name in attributes.column_names]
    columns = [attributes[name].combine_chunks().take(newest) for name in read]
    return pa.Table.from_arrays([items.item_id.cast(pa.string()), *columns], ["item_id", *read])
