"""DeepFM, against its equations pair by pair."""

import itertools

import pytest
import torch

from edgelr.tasks.deepfm import DeepFM
from edgelr.tasks.recommendation_layout import Layout
from edgelr.tasks.recommendation_model import make_model

LAYOUT = Layout(
    model_type="deepfm",
    users=5,
    items=7,
    dim=6,
    hidden=8,
    features=9,
    user_features=2,
    item_features=3,
)


@pytest.fixture
def model() -> DeepFM:
    torch.manual_seed(0)
    made = make_model(LAYOUT)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    made.features.weight.data[0] = made.feature_bias.data[0] = 0.0
    made.user_features[:] = torch.randint(1, 9, (5, 2))
    made.item_features[:] = torch.randint(1, 9, (7, 3))
    made.item_features[2] = torch.tensor([4, 0, 0])
    return made.eval()


def by_hand(model: DeepFM, user: int, item: int) -> torch.Tensor:
    """Every two of the vectors, and one MLP on all of them."""
    facts = [
        [row for row in rows.tolist() if row]
        for rows in (model.user_features[user], model.item_features[item])
    ]
    vectors = [model.users.weight[user], model.items.weight[item]]
    known = [model.features.weight[rows] for rows in facts]
    products = sum(a @ b for a, b in itertools.combinations([*vectors, *known[0], *known[1]], 2))
    alone = model.user_bias[user] + model.item_bias[item] + model.feature_bias[facts[0] + facts[1]].sum()
    read = torch.cat([vectors[0], known[0].sum(0), vectors[1], known[1].sum(0)])
    first = torch.cat([model.deep_user.weight, model.deep_item.weight], dim=1)
    hidden = torch.relu(first @ read + model.deep_user.bias)
    return products + alone + model.out(torch.relu(model.deep(hidden))).squeeze()


def test_it_is_products_of_all_vectors_and_an_mlp_of_them(model: DeepFM) -> None:
    users, items = torch.tensor([1, 4]), torch.tensor([2, 0, 6])
    scores = model(users, items)
    for row, column in itertools.product(range(2), range(3)):
        expected = by_hand(model, int(users[row]), int(items[column]))
        torch.testing.assert_close(scores[row, column], expected, rtol=1e-4, atol=1e-4)


def test_candidates_do_not_change_each_other(model: DeepFM) -> None:
    every = model(torch.tensor([3]), torch.arange(7))
    torch.testing.assert_close(model(torch.tensor([3]), torch.tensor([5, 5, 1])), every[:, [5, 5, 1]])


def test_a_new_model_has_no_feature_in_row_0() -> None:
    assert not make_model(LAYOUT).features.weight[0].any()
