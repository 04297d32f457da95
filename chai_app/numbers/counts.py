"""Counts that a prompt gives as a range."""

from __future__ import annotations

from typing import Self


class CountRange(int):
    """A count that is not said exactly: "several" is 3 to 9.

    As a number it is its middle, by ratio: as many more as the least makes the middle, makes the most of the middle.
    So it can be kept and compared wherever a plain count can.
    """

    least: int
    most: int

    def __new__(cls, least: int, most: int) -> Self:
        if not 0 < least <= most:
            raise ValueError(f"a count from {least} to {most} is none")
        count = super().__new__(cls, round((least * most) ** 0.5))
        count.least, count.most = least, most
        return count

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]
        return self.least, self.most

    def __str__(self) -> str:
        return f"{self.least} to {self.most}"
