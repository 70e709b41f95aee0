"""What a task is measured by: plain functions, the same for torch, a baseline and a candidate."""

METRICS = {
    "sentence-embedding": ("cosine", "mrr@10", "recall@10", "overlap@10"),
    "translation": ("bleu", "chrf", "exact_match", "agreement", "chrf_to_dense"),
    "automatic-speech-recognition": ("wer", "cer", "exact_match", "wer_to_dense", "agreement"),
    "text-generation": ("perplexity", "agreement", "agreed_tokens"),
}
ERRORS = frozenset({"wer", "cer", "wer_to_dense", "perplexity"})  # better when lower
