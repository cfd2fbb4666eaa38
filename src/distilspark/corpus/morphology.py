"""English words with their forms; a template refers to a form as an attribute, e.g. `{person1.pl}`."""

from __future__ import annotations

from dataclasses import dataclass, fields

SIBILANTS = ("s", "x", "z", "ch", "sh")
SILENT_H = ("honest", "hour")


def with_article(phrase: str) -> str:
    """Return the phrase after `a` or `an`.

    >>> with_article("old lamp"), with_article("honest clerk"), with_article("uniform")
    ('an old lamp', 'an honest clerk', 'a uniform')
    """
    vowel = phrase[0] in "aeiou" and not phrase.startswith(("uni", "eu", "use"))
    return f"{'an' if vowel or phrase.startswith(SILENT_H) else 'a'} {phrase}"


def ends_in_consonant_y(stem: str) -> bool:
    """Return whether a final `y` becomes `i` before an ending."""
    return stem.endswith("y") and stem[-2] not in "aeiou"


def add_s(stem: str) -> str:
    """Return the regular plural of a noun, or third person of a verb.

    >>> add_s("diary"), add_s("tray"), add_s("watch")
    ('diaries', 'trays', 'watches')
    """
    if ends_in_consonant_y(stem):
        return f"{stem[:-1]}ies"
    return f"{stem}es" if stem.endswith(SIBILANTS) else f"{stem}s"


def add_e(stem: str, ending: str) -> str:
    """Attach `ed`, `er` or `est` by the regular spelling.

    >>> add_e("carry", "ed"), add_e("wise", "er"), add_e("tall", "est")
    ('carried', 'wiser', 'tallest')
    """
    if ends_in_consonant_y(stem):
        return f"{stem[:-1]}i{ending}"
    return stem + (ending[1:] if stem.endswith("e") else ending)


def add_ing(stem: str) -> str:
    """Return the regular present participle.

    >>> add_ing("write"), add_ing("see"), add_ing("carry")
    ('writing', 'seeing', 'carrying')
    """
    return (stem[:-1] if stem.endswith("e") and not stem.endswith("ee") else stem) + "ing"


@dataclass(frozen=True)
class Word:
    """A word with one form."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def a(self) -> str:
        return with_article(self.text)


@dataclass(frozen=True)
class Adjective(Word):
    """A gradable adjective; `er` and `est` are used for short ones only."""

    er: str
    est: str


@dataclass(frozen=True)
class Noun:
    """A common noun, possibly with modifiers."""

    sg: str
    pl: str

    @property
    def a(self) -> str:
        return with_article(self.sg)


@dataclass(frozen=True)
class Pronoun:
    """A pronoun: subject, object, determiner and independent possessive."""

    he: str
    him: str
    his: str
    mine: str

    def __str__(self) -> str:
        return self.he


@dataclass(frozen=True)
class Name(Word):
    """A first name and the pronouns that refer to it; the `not_` forms are those of the other gender."""

    he: str
    him: str
    his: str
    himself: str
    not_he: str
    not_himself: str


@dataclass(frozen=True)
class Verb:
    """A verb's paradigm; `particle` is empty except for phrasal verbs."""

    base: str
    s: str
    past: str
    participle: str
    ing: str
    particle: str = ""


def noun(entry: str) -> Noun:
    """Parse `knife/knives`, or the singular alone."""
    sg, *pl = entry.split("/")
    return Noun(sg, *pl or [add_s(sg)])


def verb(entry: str) -> Verb:
    """Parse `base/past/participle/ing`, as many as are irregular, then `+particle`.

    >>> verb("write/wrote/written").ing, verb("pick+up").past, verb("find/found").participle
    ('writing', 'picked', 'found')
    """
    forms, _, particle = entry.partition("+")
    base, *irregular = forms.split("/")
    past = irregular[0] if irregular else add_e(base, "ed")
    participle = irregular[1] if len(irregular) > 1 else past
    ing = irregular[2] if len(irregular) > 2 else add_ing(base)
    return Verb(base, add_s(base), past, participle, ing, particle)


def adjective(entry: str) -> Adjective:
    """Parse `red/redder/reddest`, or the positive alone."""
    text, *graded = entry.split("/")
    er, est = graded or (add_e(text, "er"), add_e(text, "est"))
    return Adjective(text, er, est)


def man(name: str) -> Name:
    """Return a name that `he` refers to."""
    return Name(name, "he", "him", "his", "himself", "she", "herself")


def woman(name: str) -> Name:
    """Return a name that `she` refers to."""
    return Name(name, "she", "her", "her", "herself", "he", "himself")


def pronoun(entry: str) -> Pronoun:
    """Parse `he/him/his/his`: subject, object, determiner, independent."""
    return Pronoun(*entry.split("/"))


def forms(word: object) -> list[str]:
    """Return all forms of a word; a form may have several words."""
    if isinstance(word, str):
        return [word]
    return [getattr(word, field.name) for field in fields(word)]  # type: ignore[arg-type]
