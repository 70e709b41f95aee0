import pytest

from edgelr.lowrank.conv_cost import conv_macs, conv_parameters, largest_rank, matrix_shape


def test_shapes_of_both_forms():
    assert matrix_shape(8, 4, (3, 5), "channel") == (8, 60)
    assert matrix_shape(8, 4, (3, 5), "spatial") == (40, 12)
    assert matrix_shape(8, 4, (7,), "channel") == (8, 28)
    assert largest_rank(8, 4, (3, 5), "channel") == 8
    assert largest_rank(8, 4, (3, 5), "spatial") == 12


def test_numbers_stored_are_those_of_two_convolutions():
    assert conv_parameters(8, 4, (3, 5), None, "channel") == 8 * 4 * 15
    assert conv_parameters(8, 4, (3, 5), None, "spatial") == 8 * 4 * 15
    assert conv_parameters(8, 4, (3, 5), 2, "channel") == 2 * 4 * 15 + 8 * 2
    assert conv_parameters(8, 4, (3, 5), 2, "spatial") == 2 * 4 * 3 + 8 * 2 * 5


def test_macs_are_for_each_output_position():
    assert conv_macs(8, 4, (3, 5), None, "spatial", stride=(2, 2)) == 8 * 4 * 15
    assert conv_macs(8, 4, (3, 5), 2, "channel", stride=(2, 2)) == 2 * 4 * 15 + 8 * 2
    # the kh x 1 convolution runs at both columns that one output column comes from
    assert conv_macs(8, 4, (3, 5), 2, "spatial", stride=(2, 2)) == 2 * (2 * 4 * 3) + 8 * 2 * 5
    assert conv_macs(8, 4, (7,), 2, "channel", stride=(3,)) == 2 * 4 * 7 + 8 * 2


def test_one_axis_has_no_spatial_form():
    with pytest.raises(ValueError, match=r"two axes, not \(7,\)"):
        matrix_shape(8, 4, (7,), "spatial")
