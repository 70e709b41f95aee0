"""The pictures are well-formed SVG, to scale, with the figures in words."""

from typing import Any
from xml.etree import ElementTree

from edgelr.report.pictures import BAR_WIDTH, Bar, bar_chart, latency_picture, layers_picture

SVG = "{http://www.w3.org/2000/svg}"


def bars(picture: str) -> list[float]:
    """Lengths of the bars, top to bottom; the first rectangle is the background."""
    rectangles = ElementTree.fromstring(picture).findall(f"{SVG}rect")
    return [float(rectangle.attrib["width"]) for rectangle in rectangles[1:]]


def words(picture: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(picture).findall(f"{SVG}text")]


def test_layers_show_kept_share_and_rank(document: dict[str, Any]) -> None:
    picture = layers_picture(document["layers"])
    assert bars(picture) == [BAR_WIDTH / 2, BAR_WIDTH]
    assert words(picture)[1:] == ["layer.0.query", "0.50, low-rank 2", "layer.0.<out>", "dense"]


def test_latency_is_to_scale_and_carries_its_evidence(document: dict[str, Any]) -> None:
    picture = latency_picture(document["latency"])
    assert bars(picture) == [BAR_WIDTH * share for share in (1 / 8, 5 / 64, 1 / 16, 1, 5 / 8, 1 / 2)]
    assert words(picture)[1:3] == ["cpu-1t, 1x16: dense-fp32", "8.00 ms (run)"]


def test_a_latency_that_is_missing_is_said() -> None:
    row = {"device": "d", "shape": "1x16", "variant": "candidate", "evidence": "run", "p50_ms": None}
    assert words(latency_picture([row]))[-1] == "not measured"


def test_nothing_to_draw_is_still_a_picture() -> None:
    assert bars(bar_chart("empty", [])) == []
    assert bars(bar_chart("zero", [Bar(label="a", value=0.0, text="0", color="#000000")])) == [0.0]
