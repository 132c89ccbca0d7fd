"""Generation against a plain loop, and its choices against another library's."""

import pytest
import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper

from ptft.models.seq2seq import Seq2Seq
from ptft.models.transformer_seq2seq import TransformerSeq2Seq
from ptft.nn.generation import Decoding, choose, generate, restrict, write
from ptft.objectives.clm import CLM
from ptft.objectives.infill import Infill


@pytest.fixture
def objective(make_gpt, tokenizer):
    objective = CLM(make_gpt(max_length=16, init_std=0.3), tokenizer, tie=True, document_aware=False)
    return objective.eval()


@pytest.fixture(params=[TransformerSeq2Seq, Seq2Seq])
def translator(request, settings, tokenizer):
    """An encoder-decoder model that writes for sources."""
    torch.manual_seed(0)
    small = {"dim": 32, "layers": 2, "max_length": 16, "dropout": 0.0, "init_std": 0.5}
    name = "seq2seq" if request.param is Seq2Seq else "transformer_seq2seq"
    model = request.param(vocab_size=tokenizer.vocab_size, **settings(name) | small)
    return Infill(model, tokenizer, True, 0.3, 3.0).eval()


def plainly(objective, prompt: list[int], count: int) -> list[int]:
    """The likeliest next token, again and again, always reading the whole window."""
    tokens = list(prompt)
    for _ in range(count):
        features = objective.model(torch.tensor([tokens[-objective.model.max_length :]]))
        tokens.append((features[0, -1] @ objective.output_weight.T).argmax().item())
    return tokens[len(prompt) :]


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("count", [5, 30])
def test_greedy_text_equals_that_of_a_plain_loop_beyond_the_window_too(objective, count, cache):
    prompt = [50, 51, 52, 53]
    found = generate(objective, prompt, count, temperature=0, cache=cache)
    assert found == [plainly(objective, prompt, count)]
    assert len(set(found[0])) > 2  # not one token for ever, which any window would give


@pytest.mark.parametrize("length", [15, 16, 17, 40])
def test_prompts_as_long_as_the_window_and_longer_are_read(objective, length):
    prompt = torch.arange(60, 60 + length).tolist()
    assert generate(objective, prompt, 6, temperature=0) == [plainly(objective, prompt, 6)]


def test_the_cache_changes_no_sampled_text(objective):
    drawn = [generate(objective, [50, 51], 30, seed=3, num_samples=3, cache=cache) for cache in (False, True)]
    assert drawn[0] == drawn[1]


def test_the_seed_decides_the_text_and_samples_differ(objective):
    first, second, third = (generate(objective, [50], 12, seed=seed, num_samples=2) for seed in (0, 0, 1))
    assert first == second != third
    assert first[0] != first[1]


def test_text_stops_before_the_end_token(objective):
    long = generate(objective, [50, 51], 20, temperature=0)[0]
    end = long[7]
    assert generate(objective, [50, 51], 20, temperature=0, eos_id=end)[0] == long[: long.index(end)]


def test_nobody_elses_randomness_is_touched(objective):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    generate(objective, [50], 5)
    assert torch.equal(before, torch.get_rng_state())


PROMPTS = [[50, 51, 52], [60], [70, 71, 72, 73, 74, 75], [80, 81, 82], [90] * 9]
WAYS = [Decoding(6, 0.0), Decoding(6, 1.0, top_k=20), Decoding(6, 0.0, num_beams=3, length_penalty=0.6), Decoding(30, 0.0)]


@pytest.mark.parametrize("way", WAYS)
def test_prompts_of_any_length_are_gone_on_with_together_as_alone(objective, way):
    found = write(objective, PROMPTS, way, seed=2, eos_id=55)
    assert found == [write(objective, [prompt], way, 2, [row], eos_id=55)[0] for row, prompt in enumerate(PROMPTS)]
    assert found == write(objective, PROMPTS, way, seed=2, eos_id=55, cache=False)
    assert len({tuple(text) for text in found}) == len(PROMPTS)


@pytest.mark.parametrize("way", WAYS[:3])
def test_sources_are_written_for_together_as_alone(translator, way):
    found = write(translator, PROMPTS, way, seed=2, eos_id=55)
    assert found == [write(translator, [prompt], way, 2, [row], eos_id=55)[0] for row, prompt in enumerate(PROMPTS)]
    assert all(text and 55 not in text for text in found)


def test_what_is_written_for_a_source_is_the_likeliest_token_each_time(translator, tokenizer):
    source, text = torch.tensor([PROMPTS[0]]), [tokenizer.cls_id]
    for _ in range(6):
        features = translator.model(source, None, torch.tensor([text]))
        text.append((features[0, -1] @ translator.output_weight.T).argmax().item())
    assert write(translator, PROMPTS[:1], Decoding(6, 0.0)) == [text[1:]]
    assert write(translator, PROMPTS[:1], Decoding(6, 0.0), eos_id=text[3])[0] == text[1 : text.index(text[3])]


def test_a_search_finds_texts_that_are_at_least_as_likely(translator, tokenizer):
    def likelihood(source, text) -> float:
        features = translator.model(torch.tensor([source]), None, torch.tensor([[tokenizer.cls_id, *text[:-1]]]))
        scores = (features[0] @ translator.output_weight.T).log_softmax(-1)
        return scores[range(len(text)), text].sum().item()

    greedy, searched = (write(translator, PROMPTS, Decoding(6, 0.0, num_beams=beams)) for beams in (1, 8))
    sums = [sum(likelihood(*pair) for pair in zip(PROMPTS, texts, strict=True)) for texts in (greedy, searched)]
    assert sums[1] >= sums[0]


@pytest.mark.parametrize("k", [1, 3, 500])
def test_top_k_equals_another_librarys(k):
    logits = torch.randn(4, 50)
    expected = TopKLogitsWarper(min(k, 50))(None, logits)
    assert torch.equal(restrict(logits, k, None), expected)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.999])
def test_top_p_equals_another_librarys(p):
    logits = torch.randn(4, 50) * 3
    expected = TopPLogitsWarper(p)(None, logits)
    assert torch.equal(restrict(logits, None, p), expected)


def test_tokens_are_drawn_as_often_as_their_probability_says():
    logits = torch.tensor([[0.0, 1.0, 2.0]]).repeat(20_000, 1)
    drawn = choose(logits, 0.5, None, None, torch.rand(20_000, generator=torch.Generator().manual_seed(0)))
    expected = torch.softmax(logits[0] / 0.5, -1)
    torch.testing.assert_close(drawn.bincount(minlength=3) / 20_000, expected, atol=0.015, rtol=0)


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}, {"num_beams": 0}, {"num_beams": 2}]
)
def test_settings_out_of_range_are_refused_by_name(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        Decoding(5, **wrong)


def test_an_empty_prompt_is_refused(objective):
    with pytest.raises(ValueError, match="prompt is empty"):
        generate(objective, [], 5)
