import pytest
from torch import nn

from edgelr.survey.groups import Found, find_groups


def tree(model: nn.Module, names: dict[str, tuple[int, int]]) -> nn.Module:
    """Put linears ``(in, out)`` at dotted paths."""
    for path, (in_, out) in names.items():
        owner = model
        *parents, leaf = path.split(".")
        for parent in parents:
            if not hasattr(owner, parent):
                owner.add_module(parent, nn.Module())
            owner = owner.get_submodule(parent)
        owner.add_module(leaf, nn.Linear(in_, out))
    return model


def groups(model: nn.Module) -> list[Found]:
    """With q, k and v of an attention reading one tensor, and every other layer its own."""
    sites = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    last = {name: name.rsplit(".", 1)[-1] for name in sites}
    inputs = {name: name.rsplit(".", 1)[0] if last[name][0] in "qkv" else name for name in sites}
    return find_groups(model, sites, inputs)


LAYOUTS = [
    ("self.query", "self.key", "self.value", "output.dense"),
    ("q_proj", "k_proj", "v_proj", "out_proj"),
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("q_lin", "k_lin", "v_lin", "out_lin"),
    ("q", "k", "v", "o"),
    ("attention.query", "attention.key", "attention.value", "output.dense"),
]


def attention(layout=LAYOUTS[1], *, heads=2, query=8, key=8, value=8, out=6, **attributes) -> nn.Module:
    model = nn.Module()
    model.add_module("layer", nn.Module())
    layer = tree(
        model.layer, dict(zip(layout, [(6, query), (6, key), (6, value), (value, out)], strict=True))
    )
    for name, each in {"num_heads": heads, **attributes}.items():
        setattr(layer, name, each)
    return model


def forms(model: nn.Module) -> list[str]:
    return [group.form for group in groups(model)]


@pytest.mark.parametrize("layout", LAYOUTS, ids="-".join)
def test_every_layout_is_known(layout):
    names = tuple(f"layer.{name}" for name in layout)
    assert groups(attention(layout)) == [
        Found(form="joint", sites=names[:3]),
        Found(form="query-key", sites=names[:2], heads=2, head_size=4),
        Found(form="value-output", sites=names[2:], heads=2, head_size=4),
    ]


def test_other_names_have_no_heads_but_share_their_input():
    assert forms(attention(("qq", "kk", "vv", "oo"))) == ["joint"]


def test_a_part_that_is_no_site_leaves_no_pair():
    model = attention()
    sites = {name: each for name, each in model.named_modules() if isinstance(each, nn.Linear)}
    del sites["layer.k_proj"]
    assert [group.form for group in find_groups(model, sites, dict(zip(sites, "xyz", strict=True)))] == []


def test_the_number_of_heads_may_be_one_level_down():
    model = attention(LAYOUTS[0])
    del model.layer.num_heads
    model.layer.self.num_attention_heads = 4
    assert {(group.heads, group.head_size) for group in groups(model)} == {(1, 0), (4, 2)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"heads": 0}, []),
        ({"heads": 3}, []),
        ({"query": 16}, []),  # grouped queries
        ({"value": 12}, ["query-key", "value-output"]),
        ({"value": 9}, ["query-key"]),
        ({"out": 3}, ["query-key"]),  # an output of fewer channels than a head has no rank to drop
        ({"q_norm": nn.LayerNorm(4)}, ["value-output"]),
        ({"rotary_emb": nn.Identity()}, ["value-output"]),
    ],
    ids=str,
)
def test_what_is_no_pair_of_heads_is_none(changes, expected):
    assert forms(attention(**changes)) == ["joint", *expected]


@pytest.mark.parametrize("name", ["rotary", "rotary_embedding", "rope"])
def test_rotated_positions_anywhere_leave_queries_and_keys(name):
    model = attention()
    model.add_module(name, nn.Identity())
    assert forms(model) == ["joint", "value-output"]


def test_a_lone_reader_is_in_no_joint_group():
    assert groups(tree(nn.Module(), {"a": (4, 4), "b": (4, 4)})) == []


def test_the_model_itself_may_be_the_attention():
    model = attention().layer
    assert [group.sites for group in groups(model)] == [("q_proj", "k_proj"), ("v_proj", "out_proj")]
