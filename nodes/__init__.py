"""The nodes of ComfyUI, a thin face on the engine and the cache.

Each node is defined once (`definition.Node`) and offered through whichever of ComfyUI's two interfaces the host has:
`current.py` for comfy_api.latest, `classic.py` for NODE_CLASS_MAPPINGS. Importing this costs milliseconds; torch and
the models come with the first run.
"""
