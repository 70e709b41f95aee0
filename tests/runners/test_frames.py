"""Messages between processes."""

import io

import numpy as np
import pytest

from edgelr.runners.frames import pack, read


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "int8", "uint8", "bool"])
def test_arrays_come_back_as_they_were(dtype: str) -> None:
    array = np.arange(6).reshape(1, 2, 3).astype(dtype)
    message = pack(
        {"do": "run"}, {"x": array[:, ::-1], "empty": np.zeros((2, 0), dtype), "one": array[0, 0, 0]}
    )
    found = read(io.BytesIO(message))
    assert found is not None
    header, arrays = found
    assert header == {"do": "run"}
    assert list(arrays) == ["x", "empty", "one"]
    np.testing.assert_array_equal(arrays["x"], array[:, ::-1])
    assert (arrays["x"].dtype, arrays["empty"].shape, arrays["one"].shape) == (array.dtype, (2, 0), ())
    arrays["x"][:] = 0  # an own copy


def test_messages_follow_each_other_until_the_stream_ends() -> None:
    stream = io.BytesIO(pack({"number": 1}, {}) + pack({"number": 2}, {"x": np.ones(3)}))
    assert [found[0] for found in (read(stream), read(stream)) if found] == [{"number": 1}, {"number": 2}]
    assert read(stream) is None
