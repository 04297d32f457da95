"""What `pip install .` carries; pyproject.toml has the rest.

A clone has the folders chai_app, ui, nodes, assets and docs side by side. In site-packages all but the first would take
a name that is everybody's, so that chai_app takes the others in: ui is installed as chai_app.ui, assets as
chai_app/assets. That needs no change in them, because ui names its own modules relatively and ours as chai_app.*.

The root __init__.py, nodes, locales and example_workflows stay out: ComfyUI reads a pack from its folder custom_nodes
and from nowhere else.

This is Python, and not a list in pyproject.toml, so that a new folder in chai_app is not forgotten.
"""

from setuptools import find_packages, setup

FOLDERS = {"chai_app": "chai_app", "chai_app.ui": "ui", "chai_app.assets": "assets", "chai_app.docs": "docs"}

setup(
    packages=[*find_packages(include=["chai_app", "chai_app.*"]), *list(FOLDERS)[1:]],
    package_dir=FOLDERS,
    package_data={
        "chai_app": ["**/*.json", "**/*.txt"],
        "chai_app.ui": ["*.css", "*.js"],
        "chai_app.assets": ["demo/**", "enhancer/**", "numbers/**"],
        "chai_app.docs": ["pictures/numbers-*.png"],  # the page Numbers shows them
    },
)
