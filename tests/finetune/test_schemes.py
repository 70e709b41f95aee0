import torch

from edgelr.finetune.rounding import EIGHT_BITS, round_blocks, round_pairs, round_rows, round_table
from edgelr.finetune.schemes import Schemes
from edgelr.recipe.quantize import Quantize

WEIGHT = torch.randn(8, 48, generator=torch.Generator().manual_seed(0))
TABLE = torch.randn(2100, 32, generator=torch.Generator().manual_seed(1))  # large: more than 2**16 numbers
SMALL = TABLE[:300]


def schemes(scheme="int8-dynamic", tied=(), **settings):
    multiplied = frozenset(id(each) for each in tied)
    section = Quantize.model_validate({"scheme": scheme, **settings})
    return Schemes(settings=section, multiplied=multiplied)


def test_globs_name_layers_and_their_factors():
    found = schemes(layers={"*.key": "weight-int4", "encoder.*.up": "fp32"})
    assert found.of("encoder.layer.0.key.down") == found.of("model.encoder.layer.0.key") == "weight-int4"
    assert found.of("encoder.layer.0.query.up") == "fp32"
    assert found.of("encoder.layer.0.query.down") == "int8-dynamic"


def test_matrices():
    for scheme, rounded in (
        ("int8-dynamic", round_pairs(WEIGHT)),
        ("int8-static", round_pairs(WEIGHT)),
        ("a16w8", round_rows(WEIGHT, EIGHT_BITS)),
        ("weight-int8", round_blocks(WEIGHT, 8, 32)),
        ("weight-int4", round_blocks(WEIGHT, 4, 32)),
    ):
        assert torch.equal(schemes(scheme).matrix("layer", WEIGHT), rounded)
    assert torch.equal(schemes("weight-int4", block_size=16).matrix("a", WEIGHT), round_blocks(WEIGHT, 4, 16))
    short = WEIGHT[:, :40]
    assert torch.equal(schemes("weight-int4", block_size=256).matrix("a", short), round_blocks(short, 4, 16))
    assert torch.equal(schemes(layers={"a": "fp32"}).matrix("a", WEIGHT), WEIGHT)


def test_tables():
    assert torch.equal(schemes().table("words", TABLE), round_rows(TABLE, EIGHT_BITS))
    assert torch.equal(schemes("weight-int4").table("words", TABLE), round_table(TABLE, 8, 32))
    assert torch.equal(schemes("weight-int4").table("words", SMALL), round_rows(SMALL, EIGHT_BITS))
    four = schemes(vocabulary="int4")
    assert torch.equal(four.table("words", TABLE), round_table(TABLE, 4, 32))
    assert torch.equal(schemes().table("types", SMALL[:2]), SMALL[:2]), "too small to be stored as int8"


def test_a_table_that_is_a_head_too_is_rounded_as_the_head():
    assert torch.equal(schemes(tied=[TABLE]).table("words", TABLE), round_pairs(TABLE))
    blocks = schemes("weight-int8", tied=[SMALL])
    assert torch.equal(blocks.table("words", SMALL), round_table(SMALL, 8, 32))


def test_what_is_multiplied_is_rounded_too():
    x = (
        torch.randn(2, 5, 48, generator=torch.Generator().manual_seed(2))
        * torch.tensor([1.0, 9.0])[:, None, None]
    )
    each, static, wide, blocks, exact = (
        schemes(scheme, layers={"head": "fp32"}).inputs(path)(x) - x
        for scheme, path in (
            ("int8-dynamic", "a"),
            ("int8-static", "a"),
            ("a16w8", "a"),
            ("weight-int8", "a"),
            ("int8-dynamic", "head"),
        )
    )
    assert 0 < wide.abs().max() < each[0].abs().max() < static[0].abs().max()
    assert 0 < blocks[0].abs().max() < 2 * each[0].abs().max()
    assert not exact.any()
