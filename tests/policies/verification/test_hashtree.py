"""The hash tree is RFC 6962's, and a path proves one leaf at one place and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.verification.hashtree import hash_leaf, is_in, path_to, root_of

LEAVES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
# The reference roots of the certificate-transparency project (merkle_tree_test), by number of leaves.
ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


@pytest.mark.parametrize("count", ROOTS)
def test_roots_are_those_of_certificate_transparency(count: int) -> None:
    """The published leaves have the published roots."""
    assert root_of([hash_leaf(leaf) for leaf in LEAVES[:count]]).hex() == ROOTS[count]


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=40, unique=True), st.data())
def test_a_path_proves_a_leaf_at_its_place_and_no_other(leaves: list[bytes], data: st.DataObject) -> None:
    """Every leaf is proved at its index; another leaf, index, count or path is not."""
    hashes = [hash_leaf(leaf) for leaf in leaves]
    root, count = root_of(hashes), len(leaves)
    index = data.draw(st.integers(0, count - 1))
    path = path_to(hashes, index)

    assert is_in(root, leaves[index], index, count, path)
    assert not is_in(root, leaves[index] + b"x", index, count, path)
    for other in range(-1, count + 1):
        assert is_in(root, leaves[index], other, count, path) == (other == index)
    assert not is_in(root, leaves[index], index, count, (*path, root))
    if path:
        assert not is_in(root, leaves[index], index, count, path[1:])


def test_a_node_is_no_leaf() -> None:
    """The two hashes under a root, joined, do not pass as a tree's only leaf."""
    left, right = (hash_leaf(leaf) for leaf in (b"a", b"b"))

    assert not is_in(root_of([left, right]), left + right, 0, 1, ())


def test_a_path_to_nowhere_is_refused() -> None:
    """An index that no leaf has is named with those that are allowed."""
    with pytest.raises(IndexError, match=r"leaf 2: allowed are 0 to 1"):
        path_to([b"", b""], 2)
