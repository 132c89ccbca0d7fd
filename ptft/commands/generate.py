"""`ptft generate ckpt=RUN prompt="..."`: continue a prompt with a causal language model."""

from __future__ import annotations

from ptft import build
from ptft.errors import UserError
from ptft.machine import autocast
from ptft.nn.generation import generate
from ptft.nn.language import NextToken


def main(config: dict) -> None:
    """Print `num_samples` continuations, each after its prompt."""
    stage = build.stage(config, prepare=False)
    objective = stage.objective.eval()
    if not isinstance(objective, NextToken):
        raise UserError(
            f"ckpt={config['ckpt']}: {type(objective).__name__} cannot write text; "
            f"generate needs a run of objective=clm or task=generate"
        )
    tokenizer = stage.tokenizer
    prompt = objective.prompt(config["prompt"])
    try:
        with autocast(stage.device, stage.precision):
            written = generate(
                objective,
                prompt,
                config["max_tokens"],
                temperature=config["temperature"],
                top_k=config["top_k"],
                top_p=config["top_p"],
                seed=config["seed"],
                eos_id=tokenizer.eos_id,
                num_samples=config["num_samples"],
            )
    except ValueError as error:
        raise UserError(str(error)) from None
    for tokens in written:
        print(objective.shown(config["prompt"], tokenizer.decode(tokens)))
