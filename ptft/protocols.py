"""What `ptft evaluate protocol=NAME` can ask of a trained model beside the scores of its own objective."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """A class of ptft/tasks that takes the objective's place, and the settings of the command that its constructor takes.

    Where it has measure(rows) -> scores by name, that is asked; otherwise it is evaluated as any objective is. target None:
    the run's own objective stays, a language model that chooses. whole: rows of all splits are measured together, since the
    data are a test set.
    """

    target: str | None
    settings: tuple[str, ...] = ()
    whole: bool = False


FEATURES = Protocol("ptft.tasks.representation.Representation", ("protocol", "weights", "pooling"))
PROTOCOLS = {
    "knn": FEATURES,
    "linear": FEATURES,
    "similarity": Protocol("ptft.tasks.similarity.Similarity", ("pooling",)),
    "choice": Protocol(None),
    "wordsim": Protocol("ptft.tasks.word_similarity.WordSimilarity", whole=True),
    "analogy": Protocol("ptft.tasks.analogy.Analogy", whole=True),
}
