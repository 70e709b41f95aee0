"""How many weights of a row share a scale, where weights are stored in blocks."""

_LEAST_BLOCK = 16  # of the kernels


def block_of(dim: int, most: int) -> int:
    """The largest block that rows of a matrix fill: what fills up the last one is stored and multiplied too.

    Args:
        dim: Numbers of a row.
        most: Of a block, a power of 2.

    Returns:
        A power of 2, 16 at least; zeros are a third of the numbers at most, but where it is 16.
    """
    while most > _LEAST_BLOCK and 3 * (-dim % most) > dim:
        most //= 2
    return most
