"""What a device downloads, and what the model costs."""

from typing import Any

from edgelr.report.sizes import sizes_markdown, variant_sizes


def test_every_package_has_its_size_and_share(document: dict[str, Any]) -> None:
    lines = sizes_markdown(document).splitlines()
    assert lines[2:5] == [
        "| dense-fp32 | 80.00 | 0.200 |",
        "| dense-int8 | 20.00 | 0.800 |",
        "| candidate | 16.00 | – |",
    ]
    assert "| candidate | 4,000,000 | 1,000 |" in lines
    assert "downloads" not in sizes_markdown(document)


def test_a_variant_is_downloaded_in_place_of_the_candidate(document: dict[str, Any]) -> None:
    document["sizes"] = {"npu": 17_000_000, **document["sizes"]}
    assert variant_sizes(document) == {"npu": 17_000_000}
    text = sizes_markdown(document)
    assert "| candidate | 16.00 | – |\n| npu | 17.00 | – |" in text
    assert (
        "or `npu/`, a package of its own in a folder of the candidate's. Together they are 33.00 MB." in text
    )


def test_files_of_another_format_are_listed(document: dict[str, Any]) -> None:
    assert "own format" not in sizes_markdown(document)
    document["ort_bytes"] = {"ort/model.ort": 5_000_000}
    assert "| `ort/model.ort` | 5.00 |" in sizes_markdown(document)
