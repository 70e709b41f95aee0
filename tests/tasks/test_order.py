"""Which texts each step sees."""

from hypothesis import given, settings
from hypothesis import strategies as st

from edgelr.tasks.order import batch_of_step, epoch_batches

LENGTHS = tuple((7 * index) % 101 for index in range(1000))


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 200), size=st.integers(1, 40), epoch=st.integers(0, 3))
def test_an_epoch_shows_no_text_twice_and_leaves_out_less_than_a_batch(
    count: int, size: int, epoch: int
) -> None:
    batches = epoch_batches(LENGTHS[:count], size, 0, epoch)
    shown = [index for batch in batches for index in batch]
    assert len(shown) == len(set(shown)) > count - size
    assert set(shown) <= set(range(count))
    assert len(batches) == len(epoch_batches(LENGTHS[:count], size, 0, 0)), "every epoch has as many"


def test_every_text_is_shown_when_batches_come_out_even() -> None:
    batches = epoch_batches(LENGTHS, 10, 0, 0)
    assert sorted(index for batch in batches for index in batch) == list(range(1000))


def test_texts_of_a_batch_are_of_similar_length() -> None:
    spans = [
        max(LENGTHS[index] for index in batch) - min(LENGTHS[index] for index in batch)
        for batch in epoch_batches(LENGTHS, 10, 0, 0)
    ]
    assert sum(spans) / len(spans) < 15, "random batches of ten span about 80 of the 100"


def test_the_order_is_that_of_the_seed_and_the_epoch() -> None:
    first = epoch_batches(LENGTHS, 10, 0, 0)
    epoch_batches.cache_clear()
    assert epoch_batches(LENGTHS, 10, 0, 0) == first
    assert epoch_batches(LENGTHS, 10, 1, 0) != first
    assert epoch_batches(LENGTHS, 10, 0, 1) != first


def test_steps_go_through_the_epochs_one_after_the_other() -> None:
    shown = [batch_of_step(LENGTHS, 300, 5, step) for step in range(6)]
    assert shown == [*epoch_batches(LENGTHS, 300, 5, 0), *epoch_batches(LENGTHS, 300, 5, 1)]


def test_fewer_texts_than_a_batch_are_one_batch() -> None:
    assert [sorted(batch_of_step((3, 1, 2), 8, 0, step)) for step in range(3)] == [[0, 1, 2]] * 3
