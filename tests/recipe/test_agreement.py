"""Sections that contradict each other."""

# ruff: noqa: E501 - a message is one line, as the user sees it

from pathlib import Path

import pytest

from edgelr.recipe.agreement import check_agreement
from edgelr.recipe.yaml_file import read_yaml, show_key

KNOWN = ("cpu-1t", "cpu-4t")
TASK = "task: {type: sentence-embedding, max_tokens: 128}\n"


def faults(folder: Path, text: str) -> list[str]:
    path = folder / "a.yaml"
    path.write_text(text)
    found = check_agreement(read_yaml(path, what="recipe"), KNOWN)
    return [f"{fault.line}: {show_key(fault.key)}: {fault.message}" for fault in found]


@pytest.mark.parametrize(
    ("validate", "fault"),
    [
        (
            "devices: [cpu-1t, cpu-1]",
            "2: validate.devices[1]: unknown device 'cpu-1'; did you mean 'cpu-1t'?",
        ),
        ("devices: [phone]", "2: validate.devices[0]: unknown device 'phone'; known: cpu-1t, cpu-4t"),
        ("devices: [cpu-1t, cpu-1t]", "2: validate.devices[1]: 'cpu-1t' (text) is listed twice"),
        ("tokens: [16, 16]", "2: validate.tokens[1]: 16 (whole number) is listed twice"),
        (
            "tokens: [x, 129]",
            "2: validate.tokens[1]: 129 tokens are more than task.max_tokens, 128: no text is that long",
        ),
        (
            "gates: [{metric: cosin, min: 0.9}]",
            "2: validate.gates[0].metric: unknown metric 'cosin'; did you mean 'cosine'?",
        ),
        (
            "gates: [{metric: bleu, min: 0.9}]",
            "2: validate.gates[0].metric: unknown metric 'bleu'; known: cosine, mrr@10, overlap@10, recall@10",
        ),
        (
            "gates: [{latency: p90_ms, device: cpu-4t, max: 1}]",
            "2: validate.gates[0].device: 'cpu-4t' is not measured: add it to validate.devices (cpu-1t)",
        ),
        (
            "gates: [{latency: p90_ms, device: cpu1t, max: 1}]",
            "2: validate.gates[0].device: unknown device 'cpu1t'; did you mean 'cpu-1t'?",
        ),
        (
            "gates: [{latency: p90_ms, device: cpu-1t, tokens: 32, max: 1}]",
            "2: validate.gates[0].tokens: 32 tokens are not measured: add them to validate.tokens (16, 64, 128)",
        ),
        (
            "{baselines: [], gates: [{latency: p90_ms, device: cpu-1t, max_share_of: dense-int8, share: 1}]}",
            "2: validate.gates[0].max_share_of: 'dense-int8' is not built: add it to validate.baselines ()",
        ),
        (
            "{baselines: [dense-int8], gates: [size_mb: {max_share_of: dense-fp32, share: 1}]}",
            "2: validate.gates[0].size_mb.max_share_of: 'dense-fp32' is not built: "
            "add it to validate.baselines (dense-int8)",
        ),
    ],
)
def test_one_contradiction(tmp_path, validate, fault):
    text = validate if validate.startswith("{") else f"{{{validate}}}"
    assert faults(tmp_path, f"{TASK}validate: {text}\n") == [fault]


@pytest.mark.parametrize(
    ("latency", "fault"),
    [
        ("device: cpu1t", "device: unknown device 'cpu1t'; did you mean 'cpu-1t'?"),
        ("device: phone", "device: unknown device 'phone'; known: cpu-1t, cpu-4t"),
        (
            "device: cpu-1t, tokens: 129",
            "tokens: 129 tokens are more than task.max_tokens, 128: no text is that long",
        ),
    ],
)
def test_a_latency_budget_is_for_a_known_device_and_length(tmp_path, latency, fault):
    text = f"{TASK}compress: {{keep: {{latency: {{{latency}, speedup: 2}}}}}}\n"
    assert faults(tmp_path, text) == [f"2: compress.keep.latency.{fault}"]


@pytest.mark.parametrize(
    ("metric", "fault"),
    [
        ("cosin", "unknown metric 'cosin'; did you mean 'cosine'?"),
        ("bleu", "unknown metric 'bleu'; known: cosine, mrr@10, overlap@10, recall@10"),
    ],
)
def test_a_quality_budget_is_of_a_known_metric(tmp_path, metric, fault):
    text = f"{TASK}compress: {{keep: {{quality: {{metric: {metric}, max_drop: 0.1}}}}}}\n"
    assert faults(tmp_path, text) == [f"2: compress.keep.quality.metric: {fault}"]
    text = f"{TASK}quantize: {{scheme: fp16, max_drop: {{metric: {metric}, value: 0.1}}}}\n"
    assert faults(tmp_path, text) == [f"2: quantize.max_drop.metric: {fault}"]
    assert faults(tmp_path, text.replace(metric, "mrr@10")) == []


OF_TRANSLATION = "finetune: {distill: {%s: 1}}"
READING = ["translation", "automatic-speech-recognition"]
WRITING = [*READING, "text-generation"]
CLASSIFYING = ["text-classification", "token-classification", "image-classification"]


@pytest.mark.parametrize(
    ("task", "section", "key"),
    [
        ("translation", "compress: {keep: {latency: {device: cpu-1t, speedup: 2}}}", "compress.keep.latency"),
        ("translation", "export: {drop_unused_tokens: true}", "export.drop_unused_tokens"),
        ("translation", "finetune: {distill: {embedding: 1}}", "finetune.distill.embedding"),
        ("translation", "finetune: {distill: {similarity: 1}}", "finetune.distill.similarity"),
        ("sentence-embedding", OF_TRANSLATION % "logits", "finetune.distill.logits"),
        ("sentence-embedding", OF_TRANSLATION % "attention", "finetune.distill.attention"),
        ("sentence-embedding", OF_TRANSLATION % "temperature", "finetune.distill.temperature"),
        ("sentence-embedding", OF_TRANSLATION % "sequence", "finetune.distill.sequence"),
        ("sentence-embedding", "finetune: {label_smoothing: 0.1}", "finetune.label_smoothing"),
    ],
)
def test_what_only_other_tasks_know_is_a_fault(tmp_path, task, section, key):
    owners = WRITING if task == "sentence-embedding" else ["sentence-embedding"]
    kind = key.rpartition(".")[2]
    if kind in {"temperature", "label_smoothing"}:
        owners = [*WRITING, *CLASSIFYING]
    elif kind == "logits":
        owners = [*WRITING, "recommendation", *CLASSIFYING]
    elif kind == "drop_unused_tokens":
        owners = ["sentence-embedding", *CLASSIFYING[:2]]
    owners = READING if kind == "attention" else owners
    found = faults(tmp_path, f"task: {{type: {task}, max_tokens: 256}}\n{section}\n")
    named = " and ".join(owners)
    assert found == [f"2: {key}: is for the task {named}, and this one is {task}; take it out"]
    for owner in owners:
        assert faults(tmp_path, f"task: {{type: {owner}, max_tokens: 256}}\n{section}\n") == []


def test_only_sounds_can_be_masked(tmp_path):
    text = "task: {type: %s, max_tokens: 128}\nfinetune: {mask_time: 0.1}\n"
    for task in ("translation", "sentence-embedding"):
        (found,) = faults(tmp_path, text % task)
        assert found.startswith("2: finetune.mask_time: is for the task automatic-speech-recognition")
    assert faults(tmp_path, text % "automatic-speech-recognition") == []


def test_what_a_recommender_knows(tmp_path):
    text = "task: {type: %s}\n%s\n"
    trained = "model: {train: {type: two-tower}}"
    assert faults(tmp_path, text % ("recommendation", trained)) == []
    (fault,) = faults(tmp_path, text % ("translation", trained))
    assert fault == (
        "2: model.train: is for the task recommendation and text-classification, and this one is translation; "
        "take it out"
    )
    assert faults(tmp_path, text % ("recommendation", "export: {top: 20}")) == []
    (fault,) = faults(tmp_path, text % ("translation", "export: {top: 20}"))
    assert fault == "2: export.top: is for the task recommendation, and this one is translation; take it out"
    classifier = "model: {train: {type: text-classifier}}"
    assert faults(tmp_path, text % ("text-classification", classifier)) == []
    (fault,) = faults(tmp_path, text % ("text-classification", trained))
    assert fault == (
        "2: model.train.type: is for the task recommendation, and this one is text-classification"
    )
    (fault,) = faults(tmp_path, text % ("recommendation", classifier))
    assert fault == (
        "2: model.train.type: is for the task text-classification, and this one is recommendation"
    )
    (fault,) = faults(tmp_path, text % ("recommendation", "finetune: {distill: {hidden: 1}}"))
    assert fault.startswith(
        "2: finetune.distill.hidden: is for the task sentence-embedding and translation and"
    )
    gates = "validate: {gates: [{metric: log_loss, max_drop: 1}, {metric: auc, max_drop: 1}]}"
    (fault,) = faults(tmp_path, text % ("recommendation", gates))
    assert "log_loss is an error, better when lower: set max_rise" in fault


def test_lengths_of_texts_are_tokens_and_of_speech_seconds(tmp_path):
    text = "task: {type: %s}\nvalidate: {%s: [5]}\n"
    speech = "automatic-speech-recognition"
    assert faults(tmp_path, text % (speech, "audio_s")) == []
    assert faults(tmp_path, text % ("translation", "tokens")) == []
    (fault,) = faults(tmp_path, text % (speech, "tokens"))
    assert fault.startswith("2: validate.tokens: is for the task sentence-embedding and translation and")
    (fault,) = faults(tmp_path, text % ("translation", "audio_s"))
    assert fault.startswith(f"2: validate.audio_s: is for the task {speech}, and")
    (fault,) = faults(
        tmp_path,
        f"task: {{type: {speech}}}\n"
        "validate: {gates: [{latency: p50_ms, device: cpu-1t, audio_s: 7, max: 1}]}\n",
    )
    assert "7 s are not measured: add them to validate.audio_s (2, 5, 10)" in fault


def test_an_error_may_rise_and_all_else_may_drop(tmp_path):
    text = "task: {type: automatic-speech-recognition}\nvalidate: {gates: [{metric: %s, %s: 1}]}\n"
    assert faults(tmp_path, text % ("wer", "max_rise")) == faults(tmp_path, text % ("wer", "max")) == []
    assert faults(tmp_path, text % ("agreement", "max_drop")) == []
    assert faults(tmp_path, text % ("wer", "max_drop")) == [
        "2: validate.gates[0].max_drop: wer is an error, better when lower: set max_rise"
    ]
    assert faults(tmp_path, text % ("agreement", "max_rise")) == [
        "2: validate.gates[0].max_rise: agreement is better when higher: set max_drop"
    ]
    budget = "task: {type: automatic-speech-recognition}\ncompress: {keep: {quality: {metric: cer, max_drop: 1}}}\n"
    assert faults(tmp_path, budget) == [
        "2: compress.keep.quality.max_drop: cer is an error, better when lower: take a metric such as agreement"
    ]


@pytest.mark.parametrize(
    "section",
    [
        "finetune: {distill: {embedding: 0, similarity: 0.0, hidden: 1}}",
        "export: {drop_unused_tokens: false}",
        "compress: {keep: {latency: }}",
    ],
)
def test_what_is_turned_off_may_be_said_for_any_task(tmp_path, section):
    assert faults(tmp_path, f"task: {{type: translation, max_tokens: 256}}\n{section}\n") == []


def test_metrics_are_those_of_the_task(tmp_path):
    text = "task: {type: translation, max_tokens: 128}\nvalidate: {gates: [{metric: %s, max_drop: 1}]}\n"
    assert faults(tmp_path, text % "chrf") == []
    known = "agreement, bleu, chrf, chrf_to_dense, exact_match"
    assert faults(tmp_path, text % "cosine") == [
        f"2: validate.gates[0].metric: unknown metric 'cosine'; known: {known}"
    ]


def test_the_default_length_of_a_latency_budget_must_fit_too(tmp_path):
    text = "task: {max_tokens: 64}\nvalidate: {tokens: [64]}\ncompress: {keep: {latency: {device: cpu-1t}}}\n"
    message = (
        "3: compress.keep.latency.tokens: 128 tokens are more than task.max_tokens, 64: no text is that long"
    )
    assert faults(tmp_path, text) == [message]


def test_what_is_measured_may_be_gated(tmp_path):
    text = (
        "validate: {devices: [cpu-4t], tokens: [32], gates: [{metric: mrr@10, max_drop: 0.1}, "
        "{latency: p90_ms, device: cpu-4t, tokens: 32, max_share_of: dense-int8, share: 0.9}, size_mb: {max: 1}]}"
    )
    assert faults(tmp_path, TASK + text) == []


def test_the_default_lengths_must_fit_a_short_task(tmp_path):
    text = "task: {max_tokens: 64}\n"
    message = "1: validate.tokens[2]: 128 tokens are more than task.max_tokens, 64: no text is that long"
    assert faults(tmp_path, text) == [message]


@pytest.mark.parametrize(
    "text",
    [
        "a: 1",
        "task: 5\nvalidate: [1]",
        "task: {type: [1], max_tokens: x}\nvalidate: {devices: 5, tokens: {}, gates: {a: 1}, baselines: x}",
        "task: {type: translation}\nvalidate: {gates: [5, [], {metric: 3}, {metric: bleu}, {size_mb: 1}]}",
        "compress: {keep: {latency: {device: [], tokens: x}}}",
        "compress: {keep: {latency: [cpu-1t]}}",
        "task: {type: sentence-embedding}\ncompress: {keep: {quality: {metric: [cosine]}}}",
        "task: {type: sentence-embedding}\ncompress: {keep: {quality: cosine}}",
        "validate: {devices: [1, [], {}], gates: [{latency: 1, device: [], tokens: true, max_share_of: []}]}",
    ],
)
def test_wrong_types_are_left_to_the_schema(tmp_path, text):
    assert faults(tmp_path, text) == []


GRAPH = "task: {type: onnx, data: {source: arrays, path: a.npz}}\n"


@pytest.mark.parametrize(
    ("rest", "fault"),
    [
        (
            "finetune: {steps: 5}",
            "3: finetune: an ONNX file has no gradients to tune by; take the section out",
        ),
        (
            "compress: {factors: kronecker}",
            "3: compress.factors: needs gradients, which an ONNX file has not: take whitened",
        ),
        (
            "compress: {allocate: gradient}",
            "3: compress.allocate: an ONNX file has no gradients: take sensitivity",
        ),
        ("compress: {center: true}", "3: compress.center: is for torch models; take it out"),
        ("compress: {refine: true}", "3: compress.refine: is for torch models; take it out"),
        ("export: {opset: 20}", "3: export.opset: an ONNX file keeps the opset that it has; take it out"),
        (
            "compress: {keep: {quality: {metric: mrr, max_drop: 0}}}",
            "3: compress.keep.quality.metric: unknown metric 'mrr'; known: cosine, difference, metric",
        ),
    ],
)
def test_what_an_onnx_file_cannot_have(tmp_path, rest, fault):
    assert faults(tmp_path, f"{GRAPH}model: {{path: a.onnx}}\n{rest}\n") == [fault]


def test_an_onnx_file_and_its_task_belong_together(tmp_path):
    assert faults(tmp_path, f"{GRAPH}model: {{path: folder}}") == [
        "2: model.path: the task onnx needs a file that ends with .onnx"
    ]
    assert faults(tmp_path, f"{TASK}model: {{path: a.onnx}}") == [
        "2: model.path: an ONNX file is for the task onnx, and this one is sentence-embedding"
    ]
    assert faults(tmp_path, f"{GRAPH}model: {{path: a.onnx}}\ncompress: {{factors: whitened}}") == []


def test_rows_are_of_arrays(tmp_path):
    for task in ("custom", "image-classification"):
        assert faults(tmp_path, f"task: {{type: {task}}}\nvalidate: {{rows: [1, 8]}}\n") == []
        (fault,) = faults(tmp_path, f"task: {{type: {task}}}\nvalidate: {{tokens: [8]}}\n")
        assert fault.startswith("2: validate.tokens: is for the task")
    (fault,) = faults(tmp_path, "task: {type: translation}\nvalidate: {rows: [1]}\n")
    assert fault.startswith("2: validate.rows: is for the task custom and onnx")
    assert faults(tmp_path, "task: {type: custom}\nvalidate: {rows: [4, 4]}\n") == [
        "2: validate.rows[1]: 4 (whole number) is listed twice"
    ]


def test_what_is_written_must_fit_behind_what_is_read(tmp_path):
    text = "task: {type: text-generation, max_tokens: 128}\nvalidate: {tokens: [64, 65]}\n"
    message = "2: validate.tokens[1]: 65 tokens and as many to be written are more than task.max_tokens"
    assert faults(tmp_path, text) == [message]
    assert faults(tmp_path, "task: {type: text-generation}\n") == []


def test_a_language_model_looks_at_no_source(tmp_path):
    text = "task: {type: text-generation}\nfinetune: {distill: {attention: 1, logits: 1, sequence: 2}}\n"
    (fault,) = faults(tmp_path, text)
    assert fault.startswith("2: finetune.distill.attention: is for the task translation and")
    drop = "task: {type: text-generation}\nvalidate: {gates: [{metric: perplexity, max_drop: 1}]}\n"
    assert "perplexity is an error, better when lower: set max_rise" in faults(tmp_path, drop)[0]
