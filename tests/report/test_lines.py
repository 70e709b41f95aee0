from xml.etree import ElementTree

import pytest

from edgelr.report.lines import COLORS, HEIGHT, MARGIN, WIDTH, curve_picture, spectra_picture

SVG = "{http://www.w3.org/2000/svg}"


def drawn(picture: str) -> list[list[tuple[float, float]]]:
    """The points of every line."""
    root = ElementTree.fromstring(picture)
    return [
        [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
        for line in root.iter(f"{SVG}polyline")
    ]


def test_the_curve_falls_with_the_share_and_shows_the_plan():
    others, own = drawn(curve_picture([(0.3, 0.4), (0.5, 0.2), (1.0, 0.0)], 0.5, 0.2))
    assert [y for _, y in others] == sorted(y for _, y in others), "less change is lower: a larger y in SVG"
    assert own == [others[1]]
    assert others[-1] == (WIDTH - MARGIN, HEIGHT - MARGIN)


def test_spectra_are_shares_of_energy_on_a_log_scale():
    (line,) = drawn(spectra_picture({"query (4 x 4)": [90.0, 9.0, 0.9, 0.1]}))
    (_, top), (_, tenth), (_, hundredth), (_, thousandth) = line
    assert top == MARGIN
    assert tenth - top == pytest.approx(hundredth - tenth, abs=0.2)
    assert thousandth - hundredth == pytest.approx(tenth - top, abs=0.2)


@pytest.mark.parametrize("spectra", [{}, {"zero": [0.0, 0.0]}, {"<one>": [1.0]}])
def test_odd_spectra_are_drawn_too(spectra):
    assert len(drawn(spectra_picture(spectra))) == len(spectra)


def test_lines_have_their_names_beside_their_color():
    spectra = {f"layer {number}": [2.0, 1.0] for number in range(len(COLORS) + 1)}
    picture = spectra_picture(spectra)
    assert all(f">{name}</text>" in picture for name in spectra)
    assert curve_picture([], 1.0, 0.0).startswith("<svg")
