"""Rectified flow matching: a velocity that carries noise into data along straight paths."""

from __future__ import annotations

import torch
from torch import Tensor

from shapeshd.models.config import IMAGES, UNET, RunConfig
from shapeshd.models.losses import flow_matching, flow_point

from .distributed import Group
from .domains.domain import Domain
from .phase import Phase


class FlowPhase(Phase):
    """Trains a flow by the conditional flow matching loss; see `losses.flow_matching`."""

    name = "flow"

    def __init__(
        self, config: RunConfig, domain: Domain, group: Group, device: torch.device
    ) -> None:
        super().__init__(config, domain, group, device)
        self.tables = (UNET,) if config.domain == IMAGES else ()
        flow = domain.flow()
        self.networks = {"generator": flow}
        self.averages = {"generator": self.average_of(flow)}
        self.add_optimizer("generator", [(flow, 1.0)], (0.9, 0.99))

    def update(self, step: int, x: Tensor, rows: Tensor) -> dict[str, Tensor]:
        """Take a step down the loss; see `Phase.update`."""
        batch = self.config.flow.batch
        noise = self.draws.normal(step, "flow noise", batch, *x.shape[1:])
        t = self.draws.times(step, "flow times", batch)
        with self.domain.autocast():
            velocity = self.networks["generator"].velocity(flow_point(x, noise, t), t)
        loss = flow_matching(velocity, x, noise)
        self.descend("generator", loss, step)
        self.follow(step)
        return {"loss": loss.detach()}
