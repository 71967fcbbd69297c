"""The models, one a file: each holds its design, its networks and its training step."""

from lscgan.models.baselines import Arithmetic, ConditionalVAE, LabelsOnly
from lscgan.models.gan import GAN, Recipe
from lscgan.models.infogan import InfoGAN, InfoRecipe
from lscgan.models.latent_model import ConvolutionalModel, EncodingModel, LatentModel
from lscgan.models.lsc_gan import LSCGAN
from lscgan.models.lsc_vae import LSCVAE
from lscgan.models.ss_infogan import SSInfoGAN
from lscgan.models.vae import VAE

__all__ = [
    "GAN",
    "LSCGAN",
    "LSCVAE",
    "VAE",
    "Arithmetic",
    "ConditionalVAE",
    "ConvolutionalModel",
    "EncodingModel",
    "InfoGAN",
    "InfoRecipe",
    "LabelsOnly",
    "LatentModel",
    "Recipe",
    "SSInfoGAN",
]
