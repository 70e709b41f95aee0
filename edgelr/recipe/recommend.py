"""What a recipe says of recommendation: who met what, and when; and the model that is trained on it first."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from edgelr.recipe.section import Count, Section


class Interactions(Section):
    """What every source of interactions has in common: what is a like, and what is tested."""

    liked: float = Field(4.0, description="a rating from this on is a like, one below a dislike")
    validation: float = Field(
        0.1, gt=0, lt=0.5, description="share of each user's interactions, those before the test's"
    )
    test: float = Field(
        0.1,
        gt=0,
        lt=0.5,
        description="share of each user's interactions, the last in time; they travel in "
        "the package, with what came before them",
    )


class MovieLens(Interactions):
    """MovieLens 100k: 943 people's ratings of 1682 films, out of the wheel ``recbole``.

    Features are decade of age, gender and occupation of a person, decade and genres of a film.
    """

    source: Literal["movielens-100k"]


class InteractionsFile(Interactions):
    """Your own: CSV or Parquet with the columns ``user``, ``item``, ``time`` and maybe ``rating``."""

    source: Literal["file"]
    path: str = Field(description="a .csv or .parquet file next to the recipe; without ratings all are likes")
    titles: str | None = Field(
        None,
        description="likewise, with the columns 'item' and 'title'; others are features of the items for "
        "deepfm: words, several of them with | between",
    )
    users: str | None = Field(
        None, description="likewise, with the column 'user'; others are features of the users for deepfm"
    )


class Recommend(Section):
    """Users to what they will like: scores of every item of a catalog, which are log-odds."""

    type: Literal["recommendation"]
    data: Annotated[MovieLens | InteractionsFile, Field(discriminator="source")]


class Train(Section):
    """A recommender of edgelr's own, trained on the recipe's interactions before anything else."""

    type: Literal["matrix-factorization", "two-tower", "deepfm"] = Field(
        description="matrix-factorization: a vector of the user times one of the item; two-tower: the user's "
        "comes of an MLP that also reads what the user has seen; deepfm: products of all vectors of user, "
        "item and their features, and an MLP of them, for candidates that it is given"
    )
    dim: int = Field(64, ge=2, le=4096, description="numbers of a vector")
    hidden: int = Field(128, ge=2, le=16_384, description="width of the MLP, of two-tower and deepfm")
    loss: Literal["log-loss", "bpr"] = Field(
        "log-loss",
        description="log-loss: scores are log-odds of a like; bpr: they only put likes before other items",
    )
    unseen: float = Field(
        0.2, ge=0, le=1, description="what an item that a user never met counts as a dislike, of log-loss"
    )
    epochs: Count = Field(60, description="passes over the users, at most; the best on the validation counts")
    batch: int = Field(64, ge=1, description="users a step")
    learning_rate: float = Field(0.01, gt=0, lt=1)
    shrink: float = Field(0.02, ge=0, description="weight of the vectors' squared lengths in the loss")
    item_groups: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (),
        description="cut the items' table where the items that are met most make these shares of all that is "
        "met, such as [0.5, 0.9]: each part is factored with a rank of its own; not of deepfm",
    )

    @model_validator(mode="after")
    def _parts(self) -> Self:
        if list(self.item_groups) != sorted(set(self.item_groups)):
            raise ValueError("item_groups rises from share to share")
        if self.item_groups and self.type == "deepfm":
            raise ValueError(
                "item_groups is of matrix-factorization and two-tower, which score whole catalogs"
            )
        return self
