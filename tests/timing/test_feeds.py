import json

import numpy as np
import pytest

from edgelr.timing.feeds import as_request, feeds


def test_lists_are_integers_and_the_rest_is_made_up():
    found = feeds(
        {"ids": [[1, 2]], "x": {"normal": [2, 3]}, "half": {"normal": [4], "dtype": "float16"}}
        | {"mask": {"ones": [1, 2], "dtype": "bool"}}
    )
    assert {name: (array.dtype.name, array.shape) for name, array in found.items()} == {
        "ids": ("int64", (1, 2)),
        "x": ("float32", (2, 3)),
        "half": ("float16", (4,)),
        "mask": ("bool", (1, 2)),
    }
    assert found["mask"].all()
    np.testing.assert_array_equal(feeds({"y": {"normal": [2, 3]}})["y"], found["x"])


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "float16"])
def test_an_array_survives_a_line_of_json(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    (found,) = feeds(json.loads(json.dumps({"x": as_request(array)}))).values()
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
