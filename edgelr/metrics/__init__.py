"""What a task is measured by: plain functions on arrays, the same for torch, a baseline and a candidate."""

METRICS = {"sentence-embedding": ("cosine", "mrr@10", "recall@10", "overlap@10")}
