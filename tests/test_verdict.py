from edgelr.verdict import LatencyRow


def test_a_row_shows_what_its_task_has() -> None:
    row = LatencyRow(
        variant="candidate",
        device="cpu-1t",
        evidence="run",
        shape="1 x 8 tokens",
        p50_ms=1.0,
        p90_ms=2.0,
        p99_ms=3.0,
        runs=10,
        peak_bytes=1,
        threads=1,
        tokens_per_s=5.0,
    )
    figures = row.figures()
    assert figures["tokens_per_s"] == 5.0
    assert {"rtf", "first_token_ms", "encoder_ms"} & set(figures) == set()
