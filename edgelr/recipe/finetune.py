"""The recipe's section finetune: tuning of the factors on the task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgelr.recipe.section import Count, Section

Weight = Annotated[float, Field(ge=0)]


class Distill(Section):
    """Weights of the distillation losses; the dense model is the teacher."""

    embedding: Weight = Field(1.0, description="1 - cosine of the embeddings")
    similarity: Weight = Field(1.0, description="mean squared error of the batch's similarity matrix")
    hidden: Weight = Field(1.0, description="relative mean squared error of the hidden states of every layer")
    logits: Weight = Field(1.0, description="divergence of the next token's, or the label's, distribution")
    outputs: Weight = Field(
        1.0, description="squared difference of the outputs over their square, of a module of your own"
    )
    attention: Weight = Field(
        0.0, description="mean squared error of the attention to the source text, of translations"
    )
    temperature: float = Field(
        1.0, gt=0, le=20, description="that logits are divided by, where they are compared"
    )
    sequence: int = Field(
        0,
        ge=0,
        le=16,
        description="beams of the dense model, whose own texts take the place of the references; 0: "
        "references as they are",
    )


class Finetune(Section):
    """Tuning of the factors on the task."""

    steps: Count = Field(description="optimizer steps, at most")
    batch: int = Field(32, ge=2, description="texts a step")
    max_tokens: int | None = Field(
        None,
        ge=8,
        description="longer texts are cut in tuning only, since shorter steps show more of them; left out: "
        "none but what the task cuts",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of the tuning's arithmetic; auto is bf16 where the hardware has it"
    )
    learning_rate: float = Field(1.0e-3, gt=0, lt=1)
    warmup_share: float = Field(0.1, ge=0, lt=1, description="share of the steps with a rising learning rate")
    weight_decay: Weight = 0.01
    clip_norm: float = Field(1.0, gt=0, description="largest gradient norm")
    distill: Distill = Distill()  # type: ignore[call-arg]
    task_loss: Weight = Field(
        0.0,
        description="weight of the task's own loss: contrastive on (query, passage) pairs, of which every "
        "other step then is; cross entropy of the references",
    )
    mask_time: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of every sound that the model does not hear while the dense one does, in spans: "
        "SpecAugment, such as 0.05; of Whisper, wav2vec2 and HuBERT",
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="of the cross entropy")
    activations: Literal["kept", "relu"] = Field(
        "kept",
        description="relu: in place of GELU from the first step on, which is less to compute than GELU; see "
        "quantize.activations for one without tuning",
    )
    quantization_aware: bool = Field(
        False,
        description="the last third of the steps computes with weights and activations rounded as quantize "
        "will; gradients go straight through",
    )
    validate_every: Count = Field(50, description="steps between validations; the best checkpoint wins")
    patience: Count = Field(5, description="validations without a better result before tuning stops early")
    checkpoint_every: Count = Field(50, description="steps between checkpoints; a killed run resumes")
