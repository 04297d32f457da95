"""`chai` when installed (setup.py): what app.py is in a clone."""

from chai_app.cli import main, offer_ui

from .command import HELP, ui

offer_ui(ui, HELP)

if __name__ == "__main__":
    main()
