"""What objectives share that predict, from one view, the embedding a slow teacher makes of the other."""

from __future__ import annotations

from torch import Tensor, nn

from ptft.nn.joint import JointEmbedding
from ptft.nn.teacher import Buffers, Teacher, momenta, rising
from ptft.objective import Batch


class Bootstrap(JointEmbedding):
    """The sum over both orders of the views of a distance between a prediction and the teacher's embedding.

    A subclass defines `distance` and calls `bootstrap` at the end of its constructor.
    """

    loss_ranks = False
    teacher_model = "teacher.network.model."

    def bootstrap(
        self, projection: nn.Module, predictor: nn.Module, momentum: float, momentum_end: float, buffers: Buffers
    ) -> None:
        """Take the heads, and a teacher of all but the predictor; its momentum rises over the run along half a cosine."""
        self.projection, self.predictor = projection, predictor
        self.momentum, self.momentum_end = momenta(momentum, momentum_end)
        self.teacher = Teacher(self.encoder, buffers)

    def distance(self, predicted: Tensor, targets: Tensor) -> Tensor:
        """The mean distance between predictions and the teacher's embeddings [N, width]."""
        raise TypeError(f"{type(self).__name__} defines no distance")

    def compare(self, views: list[Tensor], batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        self.teacher.start(self.encoder)
        first, second = (self.encoder(view) for view in views[:2])
        targets = self.teacher(views[1]), self.teacher(views[0])
        losses = map(self.distance, (self.predictor(first), self.predictor(second)), targets)
        return sum(losses), first, second

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        self.teacher.follow(self.encoder, rising(self.momentum, self.momentum_end, progress))
