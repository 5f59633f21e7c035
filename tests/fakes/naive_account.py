"""What an account should have, by a model that knows no index, no window, no database and no process.

Every number is idle enough: who may send is a question of sets alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

TOLL_FREE = ("+1800", "+1888")
PLACES = {"415": ("US", "CA"), "510": ("US", "CA"), "212": ("US", "NY"), "416": ("CA", "ON"), "206": ("US", "WA")}
"""Country and region of the area codes that tests use."""


def type_of(number: str) -> str:
    """Plivo's word for a number's type."""
    if not number.startswith("+"):
        return "shortcode"
    return "tollfree" if number.startswith(TOLL_FREE) else "longcode"


def place_of(number: str) -> tuple[str, str, str]:
    """Country, region and area code."""
    area = number[2:5]
    return (*PLACES[area], area)


@dataclass
class NaivePack:
    """A powerpack: its settings, and whom its recipients hear from."""

    sticky: bool = True
    local: bool = True
    paused: bool = False
    order: tuple[str, ...] = ("shortcode", "tollfree", "longcode")  # for the US; Canada keeps its default
    members: set[str] = field(default_factory=set)
    threads: dict[str, str] = field(default_factory=dict)

    def may_send(self, recipient: str) -> tuple[str, set[str]]:
        """Tier, and the numbers of which one must send to this recipient; none where none may."""
        thread = self.threads.get(recipient)
        if self.sticky and thread is not None:
            return "sticky", {thread}
        return self.may_send_anew(recipient)

    def may_send_anew(self, recipient: str) -> tuple[str, set[str]]:
        """As to somebody nobody has written to."""
        country, region, area = place_of(recipient)
        order = self.order if country == "US" else ("shortcode", "longcode", "tollfree")
        for kind in order:
            numbers = {each for each in self.members if type_of(each) == kind}
            if kind != "longcode":
                found = {
                    each for each in numbers if kind == "tollfree" or country == "US"
                }  # the short code is a US one
                if found:
                    return "country", found
                continue
            steps = [
                ("area", {each for each in numbers if place_of(each)[2] == area}),
                ("region", {each for each in numbers if place_of(each)[:2] == (country, region)}),
            ]
            steps = steps if self.local else []
            steps.append(("country", {each for each in numbers if place_of(each)[0] == country}))
            steps.append(("neighbor", numbers))
            for tier, found in steps:
                if found:
                    return tier, found
        return "", set()

    def take_out(self, number: str) -> None:
        """A number has left, and with it its threads."""
        self.members.discard(number)
        self.threads = {each: kept for each, kept in self.threads.items() if kept != number}
