"""ComfyUI's way in: this folder in custom_nodes is the pack."""

from .nodes import host as _host
from .nodes import routes as _routes

WEB_DIRECTORY = "./nodes/web"

__all__ = ["WEB_DIRECTORY"]

if _host.is_there():
    try:
        from .nodes.comfy import comfy_entrypoint as comfy_entrypoint
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("comfy_api"):
            raise
        raise ImportError("CHAI needs ComfyUI 0.3.62 or newer: update ComfyUI and start it again.") from None

    __all__ += ["comfy_entrypoint"]

_host.announce_models_folder()
_routes.register()
