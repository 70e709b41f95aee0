"""The section ``task`` of a recipe for recommendation: who met what, and when."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgelr.recipe.section import Section


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
    """MovieLens 100k: 943 people's ratings of 1682 films, out of the wheel ``recbole``."""

    source: Literal["movielens-100k"]


class InteractionsFile(Interactions):
    """Your own: CSV or Parquet with the columns ``user``, ``item``, ``time`` and maybe ``rating``."""

    source: Literal["file"]
    path: str = Field(description="a .csv or .parquet file next to the recipe; without ratings all are likes")
    titles: str | None = Field(None, description="likewise, with the columns 'item' and 'title'")


class Recommend(Section):
    """Users to what they will like: scores of every item of a catalog, which are log-odds."""

    type: Literal["recommendation"]
    data: Annotated[MovieLens | InteractionsFile, Field(discriminator="source")]
