"""Videos from prompts: `python app.py --help`."""

from chai_app.cli import main

if __name__ == "__main__":
    main()
