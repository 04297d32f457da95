"""Videos from prompts with Open-Sora 1.2. The way in is `chai_app.engine.Engine`; importing loads nothing heavy."""

__version__ = "0.1.0"
