"""Videos from prompts: `python app.py --help`."""

from chai_app.cli import main, offer_ui
from ui.command import HELP, ui

offer_ui(ui, HELP)

if __name__ == "__main__":
    main()
