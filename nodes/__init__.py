"""The nodes of ComfyUI, a thin face on the engine and the cache.

Each node is defined in words of our own (`definition.Node`); `comfy.py` says them in ComfyUI's. Importing this costs
milliseconds; torch and the models come with the first run.
"""
