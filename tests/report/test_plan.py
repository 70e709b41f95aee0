from edgelr.artifact_files import read_plan, read_survey
from edgelr.progress import Progress
from edgelr.recipe.load import load_recipe
from edgelr.report.plan import plan_document, print_plan, print_variants, write_pictures


def artifacts(built):
    found = {
        stage: next((built / ".store" / stage).glob("*/manifest.json")).parent for stage in ("survey", "plan")
    }
    return read_plan(found["plan"]), read_survey(found["survey"])


def test_the_table_has_a_row_for_every_layer(built, capsys):
    plan, survey = artifacts(built)
    print_plan(plan, survey, Progress(plain=True))
    shown = capsys.readouterr().err
    for site in plan.sites:
        assert site.name in shown
    assert "left as it is" in shown


def test_the_document_says_the_same(built):
    plan, survey = artifacts(built)
    document = plan_document(plan, survey)
    assert document["kept_share"] == plan.kept_share <= 0.6
    assert len(document["layers"]) == len(plan.sites)
    assert document["skipped"]


def test_the_curve_is_printed_and_in_the_document(built, capsys):
    plan, survey = artifacts(built)
    print_plan(plan, survey, Progress(plain=True))
    shown = capsys.readouterr().err
    document = plan_document(plan, survey)
    assert [share for share, _ in document["curve"]][-1] == 1.0
    for share, change in document["curve"]:
        assert f"{share:.2f}" in shown
        assert f"{change:.4f}" in shown
    changes = [change for _, change in document["curve"]]
    assert changes == sorted(changes, reverse=True), "more budget never changes the output more"


def test_the_pictures_show_every_layer_and_kind(built, tmp_path):
    plan, survey = artifacts(built)
    layers, spectra, curve = (path.read_text() for path in write_pictures(plan, survey, tmp_path))
    assert all(site.name in layers for site in plan.sites)
    assert "kept share" in curve
    assert "attention.self.query (64 x 64)" in spectra


def test_variants_are_told_before_any_is_built(tiny_recipe, capsys):
    text = tiny_recipe.read_text() + "variants: {npu: {quantize: {scheme: a16w8}}}\n"
    tiny_recipe.write_text(text)
    print_variants(load_recipe(tiny_recipe), Progress(plain=True))
    shown = capsys.readouterr().err
    assert "variant npu: a16w8, built for devices that accept that and not int8-dynamic" in shown
