import numpy as np

from edgelr.timing.feeds import feeds


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
