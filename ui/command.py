"""`ui`, and what `python app.py` alone does: the browser UI."""

from __future__ import annotations

from typing import Annotated

import typer

from chai_app.errors import BadRequest

HELP = """Open the browser UI. This is what `python app.py` does by itself.

[bold]Examples[/bold]

  python app.py ui --port 8000

  python app.py ui --listen --user me --password "a long one"    [dim]for others on the network[/dim]
"""


def ui(
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Default: the first free one from 7860 on.")
    ] = None,
    listen: Annotated[
        bool, typer.Option("--listen", help="Let others on the network in; give --user and --password with it.")
    ] = False,
    host: Annotated[str | None, typer.Option("--host", help="The address to listen on. Default: 127.0.0.1.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="The user name to log in with.")] = None,
    password: Annotated[str | None, typer.Option("--password", help="The password to log in with.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="The model to begin with. Default: demo.")] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Another name it answers to, as behind a proxy; may be repeated."),
    ] = None,
    root_path: Annotated[
        str, typer.Option("--root-path", help="The path under which a reverse proxy shows it, such as /videos.")
    ] = "",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser window.")] = False,
) -> None:
    from chai_app.models import DEMO, find_model
    from chai_app.settings import Settings

    from .server import Access, serve

    if bool(user) != bool(password):
        raise BadRequest("Give --user and --password together, or neither.")
    settings = Settings.from_environment()
    if model is not None:
        find_model(model, settings)  # says at once that it is not here
    address = host or ("0.0.0.0" if listen else "127.0.0.1")
    access = Access(address, port, user, password, tuple(allow_host or ()), root_path)
    serve(settings, model or DEMO, access, opens_browser=not no_browser)
