"""The block that rows of a matrix fill."""

import pytest

from edgelr.runtime.block_size import block_of


@pytest.mark.parametrize(
    ("dim", "most", "block"),
    [
        *((256, 128, 128), (192, 128, 128), (96, 128, 128), (80, 128, 32), (64, 128, 64), (16, 256, 16)),
        *((5, 128, 16), (160, 128, 64), (48, 32, 32), (40, 32, 16), (100, 32, 32)),
    ],
)
def test_a_block_is_the_largest_that_rows_fill(dim: int, most: int, block: int) -> None:
    assert block_of(dim, most) == block
