"""A model that ranks candidates by who the user is, what the item is, and what is known of both: DeepFM.

Two parts read the same vectors. The factorization machine adds up the product of every two of them; the MLP
reads the user, what is known of them, the item, and what is known of it. Several features of one side, such
as genres, are one vector: their sum.

Nothing is computed twice for a pair. The first layer of the MLP is a matrix for the user's half of its input
and one for the item's, and only their sum is of the pair; so are the products, of two sums.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgelr.tasks.recommendation_layout import Layout


class DeepFM(nn.Module):
    """Log-odds of a like for users and candidates.

    Args:
        layout: Sizes.

    Source:
        Guo et al., DeepFM: A Factorization-Machine based Neural Network for CTR Prediction (IJCAI 2017),
        equations 1 to 4; Naumov et al., Deep Learning Recommendation Model (2019), for the features as
        tables of their own.
    """

    inputs = ("user", "item")
    user_features: Tensor
    item_features: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        dim, hidden, narrow = layout.dim, layout.hidden, max(1, layout.hidden // 2)
        self.users = nn.Embedding(layout.users, dim)
        self.items = nn.Embedding(layout.items, dim)
        self.features = nn.Embedding(layout.features, dim, padding_idx=0)
        # Which rows of the features' table a user or an item has; 0 where there are fewer.
        none = torch.zeros(layout.users, layout.user_features, dtype=torch.int64)
        self.register_buffer("user_features", none)
        none = torch.zeros(layout.items, layout.item_features, dtype=torch.int64)
        self.register_buffer("item_features", none)
        self.user_bias = nn.Parameter(torch.zeros(layout.users))
        self.item_bias = nn.Parameter(torch.zeros(layout.items))
        self.feature_bias = nn.Parameter(torch.zeros(layout.features))
        self.deep_user = nn.Linear(2 * dim, hidden)
        self.deep_item = nn.Linear(2 * dim, hidden, bias=False)
        self.deep = nn.Linear(hidden, narrow)
        self.out = nn.Linear(narrow, 1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Score candidates.

        Args:
            user: ``[batch]``.
            item: ``[candidates]``, the same for all users.

        Returns:
            ``[batch, candidates]``.
        """
        users, of_user, user_alone = self._side(self.users(user), self.user_features[user])
        items, of_item, item_alone = self._side(self.items(item), self.item_features[item])
        alone = (self.user_bias[user] + user_alone)[:, None] + self.item_bias[item] + item_alone
        hidden = torch.relu(self.deep_user(users)[:, None] + self.deep_item(items))
        deep: Tensor = self.out(torch.relu(self.deep(hidden))).squeeze(-1)
        return deep + of_user @ of_item.T + alone

    def _side(self, own: Tensor, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One side of a pair.

        Args:
            own: Its vectors, ``[rows, dim]``.
            features: Of each, ``[rows, features]``.

        Returns:
            What the MLP reads ``[rows, 2 dim]``; the sum of all vectors ``[rows, dim]``; and what the side
            scores without the other, ``[rows]``: products among its own vectors, and weights of features.
        """
        known = self.features(features)
        together = known.sum(1)
        total = own + together
        squares = own.square().sum(-1) + known.square().sum((1, 2))
        among = (total.square().sum(-1) - squares) / 2  # each two vectors once
        return torch.cat([own, together], dim=-1), total, among + self.feature_bias[features].sum(-1)
