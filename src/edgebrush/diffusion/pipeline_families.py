"""The families of diffusers pipelines by the name of the pipeline's class. Needs the extra ``[diffusers]``.

A new kind of pipeline is one more class in ``noise_families`` or ``flow_families`` and one more line in ``FAMILIES``.
"""

from __future__ import annotations

from edgebrush.errors import UserError

from .flow_families import AuraFlow, Flux, Lumina2, QwenImage, Sana, StableDiffusion3, ZImage
from .noise_families import Dit, PixArt, StableDiffusion, StableDiffusionXl
from .pipeline_family import PipelineFamily

FAMILIES: dict[str, type[PipelineFamily]] = {  # diffusers' pipeline class -> its family
    "DiTPipeline": Dit,
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXl,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "FluxPipeline": Flux,
    "QwenImagePipeline": QwenImage,
    "ZImagePipeline": ZImage,
    "PixArtAlphaPipeline": PixArt,
    "PixArtSigmaPipeline": PixArt,
    "AuraFlowPipeline": AuraFlow,
    "SanaPipeline": Sana,
    "Lumina2Pipeline": Lumina2,
}


def family_of(pipeline_class: str) -> type[PipelineFamily]:
    """Return the family of a pipeline class. Raises ``UserError`` for an unsupported one."""
    if pipeline_class not in FAMILIES:
        raise UserError(f"pipeline = {pipeline_class}: not supported; use one of {', '.join(FAMILIES)}")
    return FAMILIES[pipeline_class]
