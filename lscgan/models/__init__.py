"""The models, one a file: each holds its design, its networks and its training step."""

from lscgan.models.lsc_vae import LSCVAE
from lscgan.models.vae import VAE

__all__ = ["LSCVAE", "VAE"]
