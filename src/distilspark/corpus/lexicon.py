"""The words that fill templates, by class, and their partition between train and dev.

Nouns and names are partitioned: one in three belongs only to dev, the others only to train. Every template has a slot
for one of them, so that no sentence occurs in two splits. Verbs, adjectives and grammatical words are shared by both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from distilspark.corpus.morphology import Noun, Word, adjective, man, noun, pronoun, verb, woman

T = TypeVar("T")
Lexicon = Mapping[str, Sequence[Any]]  # word class -> its words
SPLITS = ("train", "dev")
DEV_EVERY = 3

NAMES: dict[str, tuple[Callable[[str], Word], str]] = {
    "man": (
        man,
        "Adam Albert Andrew Arthur Brian Carl Charles Daniel David Edward Eric Frank George Harold Henry Hugo "
        "Isaac Jack "
        "Jacob James Kevin Leo Louis Martin Michael Nathan Oliver Oscar Paul Peter Philip Ralph Robert Simon "
        "Stephen Thomas "
        "Victor Walter",
    ),
    "woman": (
        woman,
        "Alice Amanda Amy Angela Anna Barbara Beth Carol Caroline Clara Deborah Diana Ellen Emily Emma Flora "
        "Hannah Helen "
        "Irene Isabel Jane Janet Julia Karen Laura Linda Lucy Margaret Maria Martha Monica Nancy Olivia Rachel "
        "Rebecca Rose "
        "Sarah Sophie Susan Teresa",
    ),
    "city": (
        Word,
        "Amsterdam Athens Berlin Boston Cairo Chicago Denver Dublin Geneva Havana Lisbon London Madrid Oslo "
        "Paris Prague Rome "
        "Seattle Tokyo Toronto Vienna Warsaw Zurich",
    ),
}
NOUNS: dict[str, str] = {
    "person": "actor artist baker banker barber butcher captain carpenter chef clerk coach cashier customer "
    "dancer dentist "
    "detective doctor driver editor engineer farmer gardener guard guest hunter janitor journalist judge "
    "lawyer librarian "
    "manager mechanic merchant musician neighbor nurse painter passenger photographer pilot plumber poet "
    "professor reporter "
    "sailor scientist senator singer soldier student surgeon tailor teacher tourist visitor waiter writer",
    "object": "basket bicycle blanket bucket camera candle carpet chair clock coat drum guitar hammer hat "
    "helmet kettle key "
    "knife/knives ladder lamp necklace painting pillow ring scarf/scarves shovel sofa suitcase sweater table "
    "telescope toy "
    "trumpet umbrella violin wallet",
    "fragile": "bottle bowl cup jar lantern lens mirror plate pot statue teapot tile tray vase window",
    "text": "article book contract diary document essay letter manual memoir message novel poem recipe report "
    "review speech "
    "story brochure",
    "event": "banquet ceremony concert debate dinner exam festival game hearing lecture meeting parade party "
    "picnic rehearsal "
    "storm trial trip wedding",
    "place": "attic bakery barn castle cellar church courtyard factory forest garage garden gym harbor "
    "hospital hotel kitchen "
    "laundry library market museum office park restaurant school stadium station theater tunnel village yard",
    "mass": "cement charcoal clothing cutlery dust equipment flour furniture garbage gravel hay jewelry "
    "luggage machinery paperwork "
    "mud pottery rice sand livestock firewood software",
}
VERBS: dict[str, str] = {
    "arrive": "arrive appear disappear emerge fall/fell/fallen vanish",
    "blame": "admire blame criticize defend describe embarrass hurt/hurt injure photograph praise",
    "break": "break/broke/broken crack shatter",
    "damage": "damage destroy discover examine find/found inspect purchase repair",
    "decide": "agree decide hesitate hope pretend refuse decline",
    "donate": "demonstrate display donate surrender transfer/transferred/transferred/transferring",
    "enjoy": "avoid consider enjoy postpone resist",
    "explain": "announce describe explain mention recite reveal",
    "find": "buy/bought damage destroy discover examine fetch find/found inspect locate obtain purchase remove repair",
    "give": "give/gave/given hand lend/lent mail offer sell/sold send/sent show/showed/shown",
    "laugh": "blush cough faint frown giggle laugh shiver sleep/slept smile sneeze snore yawn",
    "leave": "cook dance drive/drove/driven leave/left rest run/ran/run/running sing/sang/sung speak/spoke/spoken stay "
    "swim/swam/swum/swimming travel wait work",
    "persuade": "allow convince encourage force order permit/permitted/permitted/permitting persuade urge",
    "pick": "bring/brought+back carry+off give/gave/given+away hand+over pick+up put/put/put/putting+down "
    "take/took/taken+out throw/threw/thrown+away",
    "praise": "accompany admire blame congratulate describe greet ignore imitate insult mention praise recognize thank",
    "read": "copy edit finish memorize print publish quote read/read revise sign translate type write/wrote/written",
}
TALL = "brave calm clever happy kind lazy loud old poor proud quiet rich rude short smart strong tall weak wise young"
CAREFUL = (
    "ambitious careful cautious curious famous generous honest intelligent nervous patient polite reliable talented"
)
QUALITY = (
    "cheap clean dirty dusty expensive fragile heavy large new old pretty rusty small strange ugly useful valuable"
)
MOOD = "boring complicated confusing famous funny long popular sad short strange"
WORDS: dict[str, str] = {
    "trait": f"{TALL} {CAREFUL}",
    "careful": CAREFUL,
    "quality": QUALITY,
    "mood": MOOD,
    "often": "always frequently never often rarely seldom usually",
    "modal": "can could may might must should will would",
}
PRONOUNS = "I/me/my/mine he/him/his/his she/her/her/hers we/us/our/ours they/them/their/theirs"


@dataclass(frozen=True)
class Share:
    """A split's part of the nouns and names."""

    split: str

    def __call__(self, words: Sequence[T]) -> list[T]:
        return [word for at, word in enumerate(words) if (at % DEV_EVERY == DEV_EVERY - 1) == (self.split == "dev")]


def _entries(parse: Callable[[str], T], entries: str) -> list[T]:
    return [parse(entry) for entry in entries.split()]


def shared_words() -> dict[str, list[Any]]:
    """Return the word classes that all splits share."""
    verbs = {kind: _entries(verb, entries) for kind, entries in VERBS.items()}
    words = {kind: _entries(Word, entries) for kind, entries in WORDS.items()}
    return {**verbs, **words, "tall": _entries(adjective, TALL), "pro": _entries(pronoun, PRONOUNS)}


def own_words(split: str) -> dict[str, list[Any]]:
    """Return the nouns and names that only this split uses."""
    share = Share(split)
    names: dict[str, list[Any]] = {kind: share(_entries(parse, entries)) for kind, (parse, entries) in NAMES.items()}
    nouns: dict[str, list[Noun]] = {kind: share(_entries(noun, entries)) for kind, entries in NOUNS.items()}
    people = [*names["man"], *names["woman"]]
    return {**names, **nouns, "name": people, "thing": [*nouns["object"], *nouns["fragile"]]}


@cache
def lexicon(split: str) -> Lexicon:
    """Return all words for templates of this split (`train` or `dev`)."""
    return {**shared_words(), **own_words(split)}
