"""What a task is measured by: plain functions, the same for torch, a baseline and a candidate."""

METRICS = {
    "sentence-embedding": ("cosine", "mrr@10", "recall@10", "overlap@10"),
    "translation": ("bleu", "chrf", "exact_match", "agreement", "chrf_to_dense"),
    "recommendation": ("auc", "log_loss", "recall@20", "ndcg@20", "overlap@20"),
    "automatic-speech-recognition": ("wer", "cer", "exact_match", "wer_to_dense", "agreement"),
    "text-generation": ("perplexity", "agreement", "agreed_tokens"),
    "text-classification": ("accuracy", "f1", "agreement"),
    "token-classification": ("accuracy", "f1", "agreement"),
    "image-classification": ("accuracy", "f1", "agreement"),
    "custom": ("cosine", "difference", "metric"),
    "onnx": ("cosine", "difference", "metric"),
}
# Better when lower.
ERRORS = frozenset({"wer", "cer", "wer_to_dense", "difference", "log_loss", "perplexity"})
