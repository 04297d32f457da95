"""All nodes, in the order in which the host lists them."""

from __future__ import annotations

from .cache_nodes import CacheBrowser, CacheEntry, PickDonor
from .definition import Node
from .enhance_nodes import EnhancePrompt
from .load_nodes import LoadPipeline, OpenCache
from .make_nodes import Decode, PromptToVideo, Sampler
from .plan_nodes import ExtractEntities, Plan
from .report_nodes import ReportText

NODES: tuple[type[Node], ...] = (
    PromptToVideo,
    LoadPipeline,
    OpenCache,
    EnhancePrompt,
    ExtractEntities,
    Plan,
    Sampler,
    Decode,
    ReportText,
    CacheBrowser,
    PickDonor,
    CacheEntry,
)
