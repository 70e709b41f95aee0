"""What a recipe may say of a recommender that is trained first."""

import pytest
from pydantic import ValidationError

from edgelr.recipe.recommend import Train


def test_parts_of_the_items_rise() -> None:
    assert Train.model_validate({"type": "two-tower", "item_groups": (0.5, 0.9)}).item_groups == (0.5, 0.9)
    for wrong in ((0.9, 0.5), (0.5, 0.5)):
        with pytest.raises(ValidationError, match="item_groups rises from share to share"):
            Train.model_validate({"type": "two-tower", "item_groups": wrong})
    for wrong in ((0.0,), (1.0,), (0.5, 2.0)):
        with pytest.raises(ValidationError):
            Train.model_validate({"type": "two-tower", "item_groups": wrong})


def test_candidates_come_in_any_order_so_their_table_has_no_parts() -> None:
    with pytest.raises(ValidationError, match="is of matrix-factorization and two-tower"):
        Train.model_validate({"type": "deepfm", "item_groups": (0.5,)})
