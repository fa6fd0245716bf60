"""Ids of items as other files spell them."""

import pyarrow as pa

from recmeta.metalearn.tensors.lookup import Lookup
from recmeta.serving.spelling import numbers_of, spellings

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_an_id_is_found_however_it_is_spelled() -> None:
    assert spellings("10.0") == ["10.0", "10"]
    assert spellings("-3.00") == ["-3.00", "-3"]
    assert [spellings(one) for one in ("10.5", "v1.0", "1.0.0")] == [["10.5"], ["v1.0"], ["1.0.0"]]
    assert set(spellings(DECOMPOSED)) == {COMPOSED, DECOMPOSED}
    names = ["10", "11.0", "11", COMPOSED, "12.0"]
    asked = ["10.0", "11.0", None, DECOMPOSED, "12", "10.0", "13.0", "é"]
    expected = [0, 1, -1, 3, -1, 0, -1, -1]
    found = numbers_of(Lookup(pa.array(names)), pa.array(asked))
    assert found.tolist() == expected
    many = pa.concat_arrays([pa.array(asked, pa.string())] * 100)
    assert numbers_of(Lookup(pa.array(names)), many).tolist() == expected * 100
