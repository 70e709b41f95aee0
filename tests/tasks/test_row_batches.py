import torch

from edgelr.tasks.row_batches import RowBatches, same_shapes

ROWS = [{"x": torch.zeros(1, size)} for size in (3, 5, 3, 3, 5, 3, 3, 3, 3, 4)]


def test_rows_of_the_same_shapes_are_together() -> None:
    assert same_shapes(ROWS) == [[0, 2, 3, 5, 6, 7, 8], [1, 4], [9]]
    assert same_shapes([]) == []


def test_every_epoch_has_the_whole_batches_of_every_shape() -> None:
    order = RowBatches.of(ROWS, 2, 0)
    epochs = [[order.batch(epoch * 5 + at) for at in range(5)] for epoch in range(3)]
    for epoch in epochs:
        seen = [index for batch in epoch for index in batch]
        assert len(set(seen)) == len(seen) == 9  # of seven, one is left out; of one, it is a batch
        assert {1, 4, 9} <= set(seen)
        assert all(len({ROWS[index]["x"].shape for index in batch}) == 1 for batch in epoch)
    assert epochs[0] != epochs[1]


def test_a_step_depends_on_nothing_but_seed_and_step() -> None:
    assert RowBatches.of(ROWS, 2, 0).batch(7) == RowBatches.of(ROWS, 2, 0).batch(7)
    drawn = {seed: [RowBatches.of(ROWS, 2, seed).batch(step) for step in range(5)] for seed in (0, 1)}
    assert drawn[0] != drawn[1]
