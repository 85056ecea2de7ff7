"""What a benchmark measures: one figure of ours, a rival's beside it, and the goal that it is held against."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a figure stands against its goal."""

    MET = "met"
    MISSED = "missed"
    INFORMATION = "-"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Goal:
    """At least, or at most: of the ratio ours / rival, or of our own figure where there is no rival."""

    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"


@dataclass(frozen=True)
class Figure:
    """Medians of the rounds. ``note`` says what the reader must know, above all why a figure is missing."""

    section: str
    name: str
    database: str
    ours: float | None
    rival: float | None = None
    unit: str = "accounts/s"
    goal: Goal | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return None if self.ours is None or not self.rival else self.ours / self.rival

    @property
    def verdict(self) -> Verdict:
        value = self.ratio if self.rival is not None else self.ours
        if self.ours is None:
            return Verdict.NOT_RUN
        if self.goal is None or value is None:
            return Verdict.INFORMATION
        return Verdict.MET if self.goal.met(value) else Verdict.MISSED
