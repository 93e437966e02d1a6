"""The models: SVG-LP for video, a VAE for images, and what they are made of."""

from svg.models.base import Gaussian, Inferred, Model, Outputs
from svg.models.svg_lp import SVG
from svg.models.vae import VAE

__all__ = ["SVG", "VAE", "Gaussian", "Inferred", "Model", "Outputs"]
