"""Templates: sentences with slots, free choices and one contrast.

`{person1.pl}` is a slot: a word class, a digit that tells fillers apart, a form. `(near|behind)` is a free choice.
`[is|are]` is the contrast: its first alternative makes the sentence acceptable, each of the others violates the rule.
Several contrasts in a template are coupled: all take their first, or all their second, alternative.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

from distilspark.corpus.lexicon import Lexicon
from distilspark.corpus.morphology import Noun

CHOICE = re.compile(r"\(([^()]*)\)")
BAR = re.compile(r"\|(?![^\[]*\])")  # outside contrasts
CONTRAST = re.compile(r"\[([^\[\]]*)\]")
SLOT_KEY = re.compile(r"\{([a-z]+\d)")
WORD = re.compile(r"[a-z]+")

MODIFIED = 0.22  # of the common nouns
BEFORE = {"person": "trait", "thing": "quality", "object": "quality", "fragile": "quality", "text": "mood"}
AFTER = {
    "person": ["from {city}", "with the {thing}", "who {live} in {city}"],
    "thing": ["from {city}", "from the {place}"],
    "text": ["about the {event}", "from {city}"],
}


def choose(template: str, rng: Random) -> str:
    """Make the free choices."""
    return CHOICE.sub(lambda found: rng.choice(BAR.split(found[1])), template)


def violations(template: str) -> int:
    """Return the number of violations that the template offers."""
    return min(contrast.count("|") for contrast in CONTRAST.findall(template))


def take(template: str, alternative: int) -> str:
    """Take an alternative of the contrasts; 0 gives the acceptable sentence."""
    return CONTRAST.sub(lambda found: found[1].split("|")[alternative], template)


def fill(template: str, lexicon: Lexicon, rng: Random, plain: bool) -> dict[str, Any]:
    """Draw a different word for every slot; some common nouns get a modifier unless `plain`."""
    fillers: dict[str, Any] = {}
    for key in dict.fromkeys(SLOT_KEY.findall(template)):
        kind = key[:-1]
        word = draw(lexicon, kind, rng, fillers)
        fillers[key] = word
        if kind in BEFORE and not plain and rng.random() < MODIFIED:
            fillers[key] = modify(word, kind, lexicon, rng, fillers)
    return fillers


def draw(lexicon: Lexicon, kind: str, rng: Random, used: dict[str, Any]) -> Any:
    """Draw a word of the class that is not used yet."""
    while (word := rng.choice(lexicon[kind])) in used.values():
        pass
    return word


def modify(bare: Noun, kind: str, lexicon: Lexicon, rng: Random, used: dict[str, Any]) -> Noun:
    """Return the noun with an adjective before it, or a phrase or clause after it."""
    if kind not in AFTER or rng.random() < 0.6:
        adjective = rng.choice(lexicon[BEFORE[kind]])
        return Noun(f"{adjective} {bare.sg}", f"{adjective} {bare.pl}")
    after = rng.choice(AFTER[kind])
    nouns = {"city": draw(lexicon, "city", rng, used), "place": draw(lexicon, "place", rng, used).sg}
    nouns |= {"event": draw(lexicon, "event", rng, used).sg, "thing": draw(lexicon, "thing", rng, used).sg}
    return replace(
        bare,
        sg=f"{bare.sg} {after.format(live='lives', **nouns)}",
        pl=f"{bare.pl} {after.format(live='live', **nouns)}",
    )


def spell(template: str, fillers: dict[str, Any]) -> str:
    """Return the finished sentence: with fillers, one space between words, a capital and a final mark."""
    words = " ".join(template.format_map(fillers).split())
    words = re.sub(r" ([,?])", r"\1", words)
    return words[0].upper() + words[1:] + ("" if words.endswith("?") else ".")


def literals(template: str) -> Iterator[str]:
    """Yield the lower-case words of the template itself."""
    yield from WORD.findall(re.sub(r"\{[^{}]*\}", " ", template).lower())
