"""Host lists: there and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_supervise.slurm.hostlist import compress, expand


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("n1", ["n1"]),
        ("login", ["login"]),
        ("n[1-3,5],m1", ["n1", "n2", "n3", "n5", "m1"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("n[001,3]", ["n001", "n3"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("n[1-2]-ib", ["n1-ib", "n2-ib"]),
        ("x-1,x-2", ["x-1", "x-2"]),
    ],
)
def test_expand(text: str, names: list[str]) -> None:
    assert expand(text) == names


@pytest.mark.parametrize(
    "text", ["n[1-", "n1]", "n[[1]]", "a,,b", "n[a-b]", "n[3-1]", "n[]", "n[1-999999999]"]
)
def test_what_is_no_host_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        expand(text)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["n1"], "n1"),
        (["n1", "n2", "n3", "n5"], "n[1-3,5]"),
        (["n09", "n10"], "n[09-10]"),
        (["n9", "n10"], "n[9-10]"),
        (["a", "b1", "b2", "c"], "a,b[1-2],c"),
        (["n2", "n1"], "n[2,1]"),
    ],
)
def test_compress(names: list[str], text: str) -> None:
    assert compress(names) == text


NAME = st.builds(
    lambda stem, number: stem + number,
    st.sampled_from(["n", "gpu", "r1c", "x-"]),
    st.one_of(st.just(""), st.integers(0, 1200).map(str), st.integers(0, 1200).map("{:04d}".format)),
)


@given(st.lists(NAME, max_size=20))
def test_what_was_compressed_expands_to_the_same_names_in_the_same_order(names: list[str]) -> None:
    assert expand(compress(names)) == names
