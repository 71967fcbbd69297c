"""Design a latent space: LSC-GAN and ss-InfoGAN, and the book that teaches them."""

__version__ = "0.10.0"

from lscgan.hub import available, load

__all__ = ["__version__", "available", "load"]
