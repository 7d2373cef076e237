"""An objective: the L1 distance of the predicted center from that of the true box."""

from medground.objectives import distributed
from medground.objectives.objective import Objective


class Center(Objective):
    """The loss of centers; it has no parameters."""

    def forward(self, encoded, batch):
        """Return the mean distance over the true boxes."""
        found = encoded.predictions.boxes[batch.box_of, 0]
        return {"center": distributed.mean((found - batch.boxes)[:, :2].abs().sum(1))}
