"""ComfyUI's way in: this folder in custom_nodes is the pack.

ComfyUI asks a module for its current interface only if the first one's names are not there, so exactly one is offered.
"""

from .nodes import host as _host
from .nodes import routes as _routes

WEB_DIRECTORY = "./nodes/web"

try:
    from .nodes.current import comfy_entrypoint

    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
except ImportError:
    from .nodes.classic import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

    __all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]

_host.announce_models_folder()
_routes.register()
