"""Token for token what transformers' ``generate()`` gives, over tiny random models of every kind."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import (
    GenerationConfig,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    MBartConfig,
    MBartForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from edgelr.runtime.decode import beam_search, greedy, greedy_steps, shortened
from edgelr.runtime.generation import Generation, generation_of

VOCABULARY = 80
PAD = {"marian": VOCABULARY - 1, "m2m100": 1, "mbart": 1, "t5": 0}
END = {"marian": 0, "m2m100": 2, "mbart": 2, "t5": 1}
LENGTHS = (9, 3, 6, 1)  # of the source texts of a padded batch


class TorchDecoder:
    """The model's own decoder and cache behind the interface of this package."""

    def __init__(self, model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor) -> None:
        self.model, self.ids, self.first_mask = model, ids, mask
        self.steps: list[int] = []

    def start(self, rows: int) -> None:
        assert rows == len(self.ids)
        self.mask = self.first_mask
        with torch.inference_mode():
            self.states = self.model.get_encoder()(input_ids=self.ids, attention_mask=self.mask)[0]
        self.cache = EncoderDecoderCache(DynamicCache(), DynamicCache())

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        self.steps.append(len(tokens))
        with torch.inference_mode():
            found = self.model(
                decoder_input_ids=torch.from_numpy(tokens)[:, None],
                encoder_outputs=(self.states,),
                attention_mask=self.mask,
                past_key_values=self.cache,
                use_cache=True,
            )
        return found.logits[:, -1].float().numpy().copy()

    def reorder(self, rows: NDArray[np.int64]) -> None:
        chosen = torch.from_numpy(rows)
        self.cache.reorder_cache(chosen)
        self.states, self.mask = self.states[chosen], self.mask[chosen]


def bart_like(config: type, model: type, name: str) -> PreTrainedModel:
    return model(
        config(
            vocab_size=VOCABULARY,
            d_model=24,
            encoder_layers=1,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            max_position_embeddings=64,
            pad_token_id=PAD[name],
            eos_token_id=END[name],
            bos_token_id=3,
            decoder_start_token_id=PAD[name] if name == "marian" else END[name],
            init_std=0.8,  # at the usual 0.02 every step gives the same token
        )
    )


def t5() -> PreTrainedModel:
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=24,
        d_kv=12,
        d_ff=32,
        num_layers=2,  # generate() has as many layers of cache as the encoder has
        num_heads=2,
        decoder_start_token_id=0,
        initializer_factor=4.0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    return T5ForConditionalGeneration(config)


MAKERS: dict[str, Callable[[], PreTrainedModel]] = {
    "marian": lambda: bart_like(MarianConfig, MarianMTModel, "marian"),
    "m2m100": lambda: bart_like(M2M100Config, M2M100ForConditionalGeneration, "m2m100"),
    "mbart": lambda: bart_like(MBartConfig, MBartForConditionalGeneration, "mbart"),
    "t5": t5,
}


@pytest.fixture(scope="session")
def models() -> dict[str, PreTrainedModel]:
    found = {}
    for name, make in MAKERS.items():
        torch.manual_seed(len(name))
        model = make().eval()
        # A head of its own: one that shares the embedding repeats its input, and next to nothing ever ends.
        model.lm_head = torch.nn.Linear(24, VOCABULARY)
        torch.nn.init.normal_(model.lm_head.weight, std=0.3)
        model.lm_head.bias.data[END[name]] = 2.5
        model.generation_config = GenerationConfig()  # else its defaults fill what a case leaves out
        found[name] = model
    return found


def sources(seed: int, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A padded batch of random source texts."""
    torch.manual_seed(seed)
    ids = torch.full((len(LENGTHS), max(LENGTHS)), PAD[name])
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = torch.randint(4, VOCABULARY - 1, (length,))
        ids[row, length - 1] = END[name]
    mask = torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]
    return ids, mask.long()


# Settings of generate(); what is not said is as transformers has it.
CASES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "greedy-marian": {"bad_words_ids": [["pad"]], "forced_eos_token_id": "eos", "renormalize_logits": True},
    "greedy-repetition": {"repetition_penalty": 1.7, "min_length": 5, "no_repeat_ngram_size": 2},
    "greedy-forced": {
        "forced_bos_token_id": 7,
        "begin_suppress_tokens": [11, 12, 13, 14, 15],
        "suppress_tokens": [20, 21, 22],
        "eos_token_id": ["eos", 17, 18, 19],
    },
    "beam": {"num_beams": 4},
    "beam-marian": {
        "num_beams": 6,
        "bad_words_ids": [["pad"], [30], ["eos"]],
        "forced_eos_token_id": "eos",
        "renormalize_logits": True,
        "max_length": 9,
    },
    "beam-short": {"num_beams": 4, "length_penalty": -1.5, "early_stopping": True},
    "beam-long": {"num_beams": 4, "length_penalty": 2.0, "early_stopping": "never"},
    "beam-no-penalty": {"num_beams": 3, "length_penalty": 0.0, "early_stopping": "never"},
    "beam-early": {"num_beams": 4, "early_stopping": True, "eos_token_id": ["eos", *range(30, 40)]},
    "beam-many-ends": {"num_beams": 2, "eos_token_id": ["eos", *range(20, 76)], "length_penalty": 3.0},
    "beam-repetition": {
        "num_beams": 4,
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 1,
        "min_new_tokens": 6,
    },
    "beam-forced": {
        "num_beams": 4,
        "forced_bos_token_id": 7,
        "forced_eos_token_id": "eos",
        "begin_suppress_tokens": [11, 12],
        "suppress_tokens": [20],
        "max_new_tokens": 6,
    },
}


def with_tokens(value: Any, name: str) -> Any:
    """The names ``pad`` and ``eos`` as the model's ids."""
    if isinstance(value, list):
        return [with_tokens(entry, name) for entry in value]
    return {"pad": PAD[name], "eos": END[name]}.get(value, value) if isinstance(value, str) else value


def config_of(model: PreTrainedModel, name: str, case: str) -> GenerationConfig:
    settings = {key: with_tokens(value, name) for key, value in CASES[case].items()}
    defaults = {"max_length": 18, "pad_token_id": PAD[name], "eos_token_id": END[name]}
    if "max_new_tokens" in settings:
        del defaults["max_length"]
    start = model.config.decoder_start_token_id
    return GenerationConfig(**{**defaults, "decoder_start_token_id": start, **settings})


def expected(model: PreTrainedModel, config: GenerationConfig, ids: torch.Tensor, mask: torch.Tensor) -> Any:
    with torch.inference_mode():
        return model.generate(input_ids=ids, attention_mask=mask, generation_config=config)


def ours(model: PreTrainedModel, generation: Generation, ids: torch.Tensor, mask: torch.Tensor) -> Any:
    decoder = TorchDecoder(model, ids, mask)
    if generation.num_beams == 1:
        return greedy(decoder, len(ids), generation)
    return beam_search(decoder, len(ids), generation, generation.num_beams)


def assert_same(found: list[list[int]], wanted: torch.Tensor, generation: Generation) -> None:
    """Equal up to the padding, which has to be nothing but padding."""
    assert max(map(len, found)) == wanted.shape[1] - 1
    for row, tokens in zip(wanted.tolist(), found, strict=True):
        assert row[: len(tokens) + 1] == [generation.decoder_start_token_id, *tokens]
        assert set(row[len(tokens) + 1 :]) <= {generation.pad_token_id, *generation.eos_token_id[:1]}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", MAKERS)
def test_tokens_are_those_of_generate(models: dict[str, PreTrainedModel], name: str, case: str) -> None:
    model = models[name]
    config = config_of(model, name, case)
    generation = generation_of(config.to_dict())
    ids, mask = sources(sum(map(ord, case)), name)
    assert_same(ours(model, generation, ids, mask), expected(model, config, ids, mask), generation)
    if case in {"greedy", "beam", "beam-early"}:
        alone = ids[1:2, : LENGTHS[1]], mask[1:2, : LENGTHS[1]]
        assert_same(ours(model, generation, *alone), expected(model, config, *alone), generation)


PROMPTED = ("greedy", "beam", "beam-short", "beam-long", "beam-no-penalty", "beam-early", "beam-many-ends")


@pytest.mark.parametrize("case", PROMPTED)
@pytest.mark.parametrize("name", MAKERS)
def test_a_prompt_is_written_first_and_does_not_count(
    models: dict[str, PreTrainedModel], name: str, case: str
) -> None:
    """In the length that scores are divided by; transformers is given it with the start token."""
    model, prompt = models[name], (11, 12, 13)
    config = config_of(model, name, case)
    generation = replace(generation_of(config.to_dict()), prompt_ids=prompt)
    ids, mask = sources(sum(map(ord, case)), name)
    begun = torch.tensor([[generation.decoder_start_token_id, *prompt]] * len(ids))
    with torch.inference_mode():
        wanted = model.generate(
            input_ids=ids, attention_mask=mask, decoder_input_ids=begun, generation_config=config
        )
    assert_same(ours(model, generation, ids, mask), wanted, generation)


def test_the_cases_are_of_all_kinds(models: dict[str, PreTrainedModel]) -> None:
    """Sequences that ended by themselves, at many lengths, and some that were cut, or little was compared."""
    lengths = set()
    for name, model in models.items():
        for case in ("greedy-forced", "beam", "beam-early"):
            generation = generation_of(config_of(model, name, case).to_dict())
            found = ours(model, generation, *sources(sum(map(ord, case)), name))
            lengths |= {len(tokens) for tokens in found if tokens[-1] in generation.eos_token_id}
            lengths |= {0 for tokens in found if tokens[-1] not in generation.eos_token_id}
    assert len(lengths) > 6
    assert 0 in lengths


# --- what generate() has no words for ---------------------------------------------------------------


class Table:
    """A decoder whose logits depend on the last token only: ``[vocabulary, vocabulary]``."""

    def __init__(self, logits: list[list[float]]) -> None:
        self.logits = np.array(logits, np.float32)
        self.orders: list[list[int]] = []
        self.steps: list[list[int]] = []

    def start(self, rows: int) -> None:
        self.steps.clear()

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        self.steps.append(tokens.tolist())
        return self.logits[tokens]

    def reorder(self, rows: NDArray[np.int64]) -> None:
        self.orders.append(rows.tolist())


PLAIN = Generation(decoder_start_token_id=0, eos_token_id=(1,), pad_token_id=0, max_length=6)
CIRCLE = [[0.0, 0.0, 5.0, 0.0], [0.0] * 4, [0.0, 0.0, 0.0, 5.0], [0.0, 9.0, 8.0, 0.0]]


def test_greedy_is_one_step_a_token_and_no_reordering() -> None:
    decoder = Table(CIRCLE)
    assert greedy(decoder, 1, PLAIN) == [[2, 3, 1]]
    assert decoder.steps == [[0], [2], [3]]
    assert decoder.orders == []


def test_steps_come_as_soon_as_they_are_known() -> None:
    decoder = Table(CIRCLE)
    steps = greedy_steps(decoder, 1, PLAIN)
    assert next(steps).tolist() == [2]
    assert decoder.steps == [[0]]


def test_of_equal_scores_the_lower_token_and_beam_win() -> None:
    flat = Table([[0.0] * 4] * 4)
    assert greedy(flat, 1, replace(PLAIN, eos_token_id=())) == [[0] * 5]
    assert beam_search(flat, 1, replace(PLAIN, eos_token_id=()), 2) == [[0] * 5]


def test_the_first_step_of_a_beam_search_is_run_once_a_text() -> None:
    decoder = Table(CIRCLE)
    beam_search(decoder, 2, PLAIN, 3)
    assert len(decoder.steps[0]) == 2
    assert {len(step) for step in decoder.steps[1:]} == {6}
    assert decoder.orders[0] == [0, 0, 0, 1, 1, 1]


def test_max_tokens_only_shortens() -> None:
    endless = replace(PLAIN, eos_token_id=())
    assert greedy(Table(CIRCLE), 1, endless, max_tokens=2) == [[2, 3]]
    assert len(greedy(Table(CIRCLE), 1, endless, max_tokens=100)[0]) == 5
    assert beam_search(Table(CIRCLE), 1, endless, 2, max_tokens=2) == [[2, 3]]
    assert shortened(PLAIN, None) is shortened(PLAIN, 5) is PLAIN


def test_early_stopping_stops_when_as_many_are_finished_as_there_are_beams() -> None:
    # The second beam ends at once, the first at the second step; what goes on is still better than the worse.
    logits = [[-9.0, 0.5, 3.0, 0.0], [0.0] * 4, [-9.0, 2.0, -9.0, 1.0], [-9.0, -9.0, 1.0, 1.0]]
    steps = {}
    for early in (True, False):
        decoder = Table(logits)
        beam_search(decoder, 1, replace(PLAIN, early_stopping=early), 2)
        steps[early] = len(decoder.steps)
    assert steps == {True: 2, False: 4}


def test_there_are_enough_candidates_to_go_on_although_all_the_best_are_ends() -> None:
    logits = [[-9.0, 5.0, 4.0, 3.0, 1.0, 0.5]] * 6
    ends = replace(PLAIN, eos_token_id=(1, 2, 3), length_penalty=4.0, early_stopping="never")
    assert beam_search(Table(logits), 1, ends, 2) == [[4, 4, 4, 4, 1]]


def test_more_beams_than_there_are_candidates_is_no_crash() -> None:
    assert len(beam_search(Table(CIRCLE), 1, PLAIN, 16)) == 1


class Counting:
    """Says the token after the largest it has seen, and notes what it is given."""

    def __init__(self) -> None:
        self.given: list[list[int]] = []

    def start(self, rows: int) -> None:
        self.seen = 0

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        self.given.append(tokens.reshape(-1).tolist())
        self.seen = max(self.seen, int(tokens.max()))
        scores = np.zeros((1, 20), np.float32)
        scores[0, self.seen + 1] = 1.0
        return scores

    def reorder(self, rows: NDArray[np.int64]) -> None: ...


def test_a_prompt_is_read_at_once_and_counts_for_every_length() -> None:
    decoder, prompt = Counting(), np.array([[3, 9, 4]])
    settings = replace(PLAIN, max_length=6, eos_token_id=())
    assert [int(found[0]) for found in greedy_steps(decoder, 1, settings, prompt)] == [10, 11, 12]
    assert decoder.given == [[3, 9, 4], [10], [11]]


def test_what_a_prompt_has_said_is_not_repeated() -> None:
    settings = replace(PLAIN, max_length=5, eos_token_id=(), no_repeat_ngram_size=1)
    found = [int(each[0]) for each in greedy_steps(Counting(), 1, settings, np.array([[5, 4, 6]]))]
    assert found == [7, 8]
    again = [int(each[0]) for each in greedy_steps(Counting(), 1, settings, np.array([[7, 7, 6]]))]
    assert again[0] == 8
