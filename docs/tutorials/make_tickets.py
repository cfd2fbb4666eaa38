"""Write the tutorial's data: support tickets, each with the team that answers it, as `tickets/train.csv` and `dev.csv`.

`python docs/tutorials/make_tickets.py FOLDER` makes the same rows every time.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from random import Random

OPENINGS = ("Hello, ", "Hi there, ", "Good morning, ", "", "Please help: ", "Once more: ")
CLOSINGS = ("", " Thanks.", " This is urgent.", " What should I do?", " I wrote last week already.")
ORDER = ("order {n}", "invoice {n}", "the chair (item {n})", "the desk lamp of order {n}", "book {n}")
TICKETS = {
    "billing": (
        "I was charged twice for {order}.",
        "the invoice for {order} has the wrong address.",
        "when will I get my money back for {order}?",
        "my card was refused when I paid for {order}.",
    ),
    "delivery": (
        "{order} has not arrived yet.",
        "the parcel with {order} was left at the wrong door.",
        "can you send {order} to another address?",
        "half of {order} is missing from the box.",
    ),
    "technical": (
        "the page for {order} shows an error.",
        "I cannot log in to look at {order}.",
        "the app closes when I open {order}.",
        "your site does not save the changes to {order}.",
    ),
}


def write(file: Path, rows: int, random: Random) -> None:
    """Write a CSV file with the columns `ticket_id`, `text` and `team`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["ticket_id", "text", "team"])
        for number in range(rows):
            team = random.choice(list(TICKETS))
            order = random.choice(ORDER).format(n=random.randint(1000, 9999))
            text = random.choice(OPENINGS) + random.choice(TICKETS[team]).format(order=order) + random.choice(CLOSINGS)
            writer.writerow([f"{file.stem}-{number}", text[0].upper() + text[1:], _mistaken(team, random)])


def _mistaken(team: str, random: Random) -> str:
    """Return the team, or in one of twenty tickets another one, as in real data."""
    return random.choice(list(TICKETS)) if random.random() < 0.05 else team


def main() -> None:
    """Write both splits into the folder that is given."""
    folder, random = Path(sys.argv[1]), Random(1)
    write(folder / "train.csv", 600, random)
    write(folder / "dev.csv", 300, random)


if __name__ == "__main__":
    main()
