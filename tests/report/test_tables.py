from edgelr.report.tables import table


def test_a_table_without_rows_is_nothing() -> None:
    assert table(("a", "b"), []) == ""
    assert table(("a", "b"), [("x\ny", 1)]) == "| a | b |\n|---|---|\n| x y | 1 |"
