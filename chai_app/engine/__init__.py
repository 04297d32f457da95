"""From a request to a video: plan it without a model, then carry it out. The room that all faces stand on."""

from .engine import Engine, Generation, OnStage, Progress, RunOrder

__all__ = ["Engine", "Generation", "OnStage", "Progress", "RunOrder"]
