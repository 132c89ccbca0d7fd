"""What `ptft evaluate protocol=NAME` can ask of a trained model beside the scores of its own objective."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """A class of ptft/tasks that takes the objective's place, and the settings of the command that its constructor takes.

    It has measure(rows) -> scores by name. whole: rows of all splits are measured together, since the data are a test set.
    """

    target: str
    settings: tuple[str, ...] = ()
    whole: bool = False


FEATURES = Protocol("ptft.tasks.representation.Representation", ("protocol", "weights", "pooling"))
PROTOCOLS = {
    "knn": FEATURES,
    "linear": FEATURES,
    "wordsim": Protocol("ptft.tasks.word_similarity.WordSimilarity", whole=True),
    "analogy": Protocol("ptft.tasks.analogy.Analogy", whole=True),
}
