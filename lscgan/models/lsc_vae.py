"""LSC-VAE: a VAE whose prior is defined in advance for every label (Kim & Cho 2019)."""

from __future__ import annotations

from torch import Tensor

from lscgan.models.vae import VAE


class LSCVAE(VAE):
    """The VAE whose posterior is pulled to N(mu(labels), I), the design's own prior.

    L = -E_{z ~ q(z|x)}[log p(x|z)] + KL[q(z|x) || N(mu(y), I)]. The encoder never sees the label:
    it has to find in the image what the prior's mean says is there. That is the whole change.
    """

    def prior_mean(self, labels: Tensor) -> Tensor:
        """mu(y): (B, A) -> (B, D)."""
        return self.design.mean(labels)
