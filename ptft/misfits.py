"""What cannot work together is refused here, before anything is built or read: settings, and choices of parts."""

from __future__ import annotations

from ptft import resolve
from ptft.duration import duration_fault
from ptft.errors import UserError
from ptft.inherited import check_inherited
from ptft.locate import locate, saved_config
from ptft.objective import Objective, check_contract, lacking, learned
from ptft.rates import optimizer_node

# models that have what another lacks, the more special traits later
BETTER = {
    "causal": "gpt",
    "bidirectional": "transformer",
    "seq2seq": "transformer_seq2seq",
    "causal|seq2seq": "gpt or transformer_seq2seq",
    "segments": "transformer",
    "two_stream": "xlnet",
    "bilm": "elmo",
    "vectors": "embedding",
    "pyramid": "resnet18 or vgg11",
    "patches": "vit",
    "decodes": "autoencoder or conv_autoencoder",
    "codebook": "vqvae",
    "variational": "vae",
}
READS = {"text": "transformer", "image": "resnet18", "table": "mlp"}  # models by what they read
# datasets of one's own files by what is learned of them, and for other targets by what they hold
HOLDERS = {"tags": "tagged_text", "boxes": "boxes", "mask": "masks", "triplet": "image_triplets", "analogy": "analogies"}
HOLDERS |= {None: "text", "text": "labelled_text", "image": "image_folder", "table": "table"}
MODALITIES = {"text", "image", "table"}
# what a class of one's own may have forgotten
CLASS_OF = {
    "model": {"traits": "a frozenset such as frozenset({'text', 'causal'})"},
    "dataset": {"modality": "text, image or table"},
}
USED_BY = {"tokenizer": "text", "transform": "image"}


def check_reads(objective: type, dataset: type) -> None:
    """Raises UserError where an objective is not for what a dataset holds."""
    reads = objective.needs & MODALITIES
    if reads and dataset.modality not in reads:
        wanted = " or ".join(sorted(reads))
        raise UserError(
            f"objective {objective.__name__} is for {wanted}, and dataset {dataset.__name__} holds {dataset.modality}"
        )


def check(config: dict) -> None:
    """Refuse, before anything is built or read, settings and choices that cannot work together. Raises UserError."""
    check_settings(config)
    trusted = config["trusted_modules"]
    dataset, model, objective = (resolve.find(kind, config[kind], trusted) for kind in ("dataset", "model", "objective"))
    check_contract(model, CLASS_OF["model"])
    check_contract(dataset, CLASS_OF["dataset"])
    missing = lacking(objective.needs, model.traits)
    if missing:
        better = [f"; use model={names}" for trait, names in BETTER.items() if trait in missing][-1:]
        raise UserError(
            f"objective {objective.__name__} needs a model with the traits {' '.join(missing).replace('|', ' or ')}, and "
            f"{model.__name__} has {' '.join(sorted(model.traits))}{''.join(better)}"
        )
    check_reads(objective, dataset)
    if dataset.modality not in model.traits:
        reads = " ".join(sorted(model.traits))
        better = "" if objective.needs - MODALITIES else f"; use model={READS[dataset.modality]}"
        raise UserError(f"dataset {dataset.__name__} holds {dataset.modality}, and model {model.__name__} is {reads}{better}")
    for part, modality in USED_BY.items():
        if (config.get(part) is None) == (dataset.modality == modality):
            missing = dataset.modality == modality
            what = f"must be given: {part}=NAME" if missing else f"is for {modality}; leave it out with ~{part}"
            raise UserError(f"dataset {dataset.__name__} holds {dataset.modality}: {part} {what}")
    if not learned(objective, dataset.targets):
        plain, target = f"{dataset.modality} without labels", (objective.target or "").replace("|", " or ")
        wanted = target if target in ("boxes", "classes", "tags") else f"a {target}"
        raise UserError(
            f"objective {objective.__name__} needs {f'{wanted} to learn for each row' if target else plain}, and dataset "
            f"{dataset.__name__} holds {' or '.join(target or plain for target in dataset.targets)}; choose another dataset"
            f"{_such_as(objective, dataset)}"
        )
    if config["ckpt"]:
        check_inherited(config, saved_config(locate(config["ckpt"])))


def check_settings(config: dict) -> None:
    """Refuse settings that are unknown, missing or of a wrong type. Raises UserError, with all faults at once."""
    kinds = [kind for kind in resolve.HOMES if config.get(kind)]
    nodes = {kind: optimizer_node(config) if kind == "optimizer" else config[kind] for kind in kinds}
    faults = [fault for kind, node in nodes.items() for fault in resolve.check(kind, node, trusted=config["trusted_modules"])]
    if config.get("schedule"):
        faults += duration_fault("schedule.warmup", config["schedule"].get("warmup"))
    if faults:
        raise UserError("\n".join(faults))


def _such_as(objective: type[Objective], dataset: type) -> str:
    """A dataset that the objective can learn from, for the end of an error line."""
    first = objective.target.split("|")[0] if objective.target else None
    name = HOLDERS.get(first) if first or dataset.modality == "text" else None
    return f", such as dataset={name or HOLDERS[dataset.modality]}"
