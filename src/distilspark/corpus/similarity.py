"""Pairs of sentences with graded similarity of meaning.

A scene (who does what to whom, where and how) is edited into a second one; each is expressed as a sentence. The score
depends on the scenes, not on the words:

    share = sum(weight * agreement) / sum(weight)      over the roles that either scene fills (WEIGHTS)
    score = 5 * share ** 2, times NEGATION_FACTOR if only one of the scenes is negated

plus a judge's noise (JITTER), in steps of 0.2 from 0 to 5. A role's agreement is 1 if both scenes have
the same concept, whatever the synonym; `agreement_*` define partial agreement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

from distilspark.corpus.concepts import (
    MANNERS,
    NOUNS,
    PLACES,
    QUALITIES,
    Action,
    Detail,
    Thing,
    actions,
    manners,
    places,
    qualities,
    things,
)
from distilspark.corpus.lexicon import SPLITS
from distilspark.corpus.morphology import Verb, forms, noun, with_article
from distilspark.corpus.template import WORD

T = TypeVar("T")

MAX_SCORE = 5.0
STEP = 0.2
JITTER = 0.2  # standard deviation
NEGATION_FACTOR = 0.35
MAX_REPEATS = 1000  # consecutive draws without a new pair

WEIGHTS = {
    "action": 4.0,
    "agent": 3.0,
    "patient": 3.0,
    "place": 2.5,
    "manner": 1.5,
    "agent_quality": 1.5,
    "patient_quality": 1.5,
}
SAME_DOMAIN = SAME_TOPIC = 0.25
OTHER_NUMBER = 0.7
BY_HYPERNYM = 0.75
UNMENTIONED = 0.4  # a detail in one scene only

GRAMMAR_WORDS = "a an the some it there is are was were who that by not did being been and of"


@dataclass(frozen=True)
class Mention:
    """A thing in a scene: its number, its quality, and whether it is called by its hypernym."""

    thing: Thing
    plural: bool = False
    quality: Detail | None = None
    general: bool = False


@dataclass(frozen=True)
class Scene:
    """An event: who does what to whom, where and how."""

    agent: Mention
    action: Action
    patient: Mention | None = None
    place: Detail | None = None
    manner: Detail | None = None
    negated: bool = False


@dataclass(frozen=True)
class ScoredPair:
    """One row: the score is from 0 (unrelated) to 5 (equivalent)."""

    sentence1: str
    sentence2: str
    score: float


Edit = Callable[[Scene, str, Random], Scene | None]  # None: the edit does not apply to the scene


def agreement_of_things(one: Mention | None, other: Mention | None) -> float:
    """Return 1 for the same thing; less for another of its domain, another number, or a hypernym."""
    if one is None or other is None:
        return 0.0
    agreement = 1.0 if one.thing == other.thing else SAME_DOMAIN * (one.thing.domain == other.thing.domain)
    agreement *= OTHER_NUMBER if one.plural != other.plural else 1.0
    return agreement * (BY_HYPERNYM if one.general != other.general else 1.0)


def agreement_of_actions(one: Action, other: Action) -> float:
    """Return 1 for the same action, whatever its object; less for another on the same topic."""
    if set(one.words) & set(other.words):
        return 1.0
    return SAME_TOPIC if one.topic == other.topic else 0.0


def agreement_of_details(one: Detail | None, other: Detail | None) -> float:
    """Return 1 for the same detail, 0 for another, `UNMENTIONED` if a scene leaves it out."""
    return UNMENTIONED if one is None or other is None else float(one == other)


def exact_score(one: Scene, other: Scene) -> float:
    """Return the score of two scenes by the module's formula, without noise."""
    agreements = {"action": agreement_of_actions(one.action, other.action)}
    agreements["agent"] = agreement_of_things(one.agent, other.agent)
    if one.patient or other.patient:
        agreements["patient"] = agreement_of_things(one.patient, other.patient)
    details = zip(_details(one).items(), _details(other).values(), strict=True)
    agreements |= {role: agreement_of_details(here, there) for (role, here), there in details if here or there}
    total = sum(WEIGHTS[role] for role in agreements)
    share = sum(WEIGHTS[role] * agreement for role, agreement in agreements.items()) / total
    return MAX_SCORE * share**2 * (NEGATION_FACTOR if one.negated != other.negated else 1.0)


def _details(scene: Scene) -> dict[str, Detail | None]:
    return {
        "place": scene.place,
        "manner": scene.manner,
        "agent_quality": scene.agent.quality,
        "patient_quality": scene.patient.quality if scene.patient else None,
    }


def noisy_score(one: Scene, other: Scene, rng: Random) -> float:
    """Return a judge's score: `exact_score` with noise, in steps of 0.2, from 0 to 5."""
    noisy = round((exact_score(one, other) + rng.gauss(0, JITTER)) / STEP) * STEP
    return round(min(MAX_SCORE, max(0.0, noisy)), 1)


def draw_scene(split: str, rng: Random) -> Scene:
    """Draw a scene with things of the split."""
    action = rng.choice([known for known in actions() if known.patients or rng.random() < 0.5])
    agent = rng.choice([thing for domain in action.agents for thing in things(split)[domain]])
    patient = None
    if action.patients:
        patient = _mention(rng.choice([thing for thing in things(split)[action.patients] if thing != agent]), rng)
    place = rng.choice(places()) if rng.random() < 0.45 else None
    manner = rng.choice(manners()) if rng.random() < 0.2 else None
    return Scene(_mention(agent, rng), action, patient, place, manner)


def _mention(thing: Thing, rng: Random) -> Mention:
    quality = rng.choice(qualities(thing.domain)) if rng.random() < 0.3 else None
    return Mention(thing, plural=rng.random() < 0.25, quality=quality)


def keep_scene(scene: Scene, split: str, rng: Random) -> Scene:
    """Return the same scene: only its words will differ."""
    return scene


def unrelated(scene: Scene, split: str, rng: Random) -> Scene:
    """Return another scene, sometimes in the same place."""
    other = draw_scene(split, rng)
    return replace(other, place=scene.place) if rng.random() < 0.4 else other


def negate(scene: Scene, split: str, rng: Random) -> Scene:
    """Negate the scene."""
    return replace(scene, negated=True)


def swap_roles(scene: Scene, split: str, rng: Random) -> Scene | None:
    """Swap agent and patient, if the patient can be the agent."""
    if not scene.patient or scene.patient.thing.domain not in scene.action.agents:
        return None
    return replace(scene, agent=scene.patient, patient=scene.agent)


def change_number(scene: Scene, split: str, rng: Random) -> Scene:
    """Change singular to plural or vice versa, for one thing."""
    return _edit_mention(scene, rng, lambda mention: replace(mention, plural=not mention.plural))


def generalize(scene: Scene, split: str, rng: Random) -> Scene | None:
    """Call one of two things by its hypernym; the other keeps the sentence in its split."""
    return _edit_mention(scene, rng, lambda mention: replace(mention, general=True)) if scene.patient else None


def _edit_mention(scene: Scene, rng: Random, edit: Callable[[Mention], Mention]) -> Scene:
    if scene.patient and rng.random() < 0.5:
        return replace(scene, patient=edit(scene.patient))
    return replace(scene, agent=edit(scene.agent))


def drop_detail(scene: Scene, split: str, rng: Random) -> Scene | None:
    """Drop one detail."""
    present = [role for role, detail in _details(scene).items() if detail]
    return _with_detail(scene, rng.choice(present), None) if present else None


def change_detail(scene: Scene, split: str, rng: Random) -> Scene | None:
    """Change a place, manner or quality."""
    present = [role for role, detail in _details(scene).items() if detail]
    if not present:
        return None
    role = rng.choice(present)
    known = _details(scene)[role]
    return _with_detail(scene, role, rng.choice([other for other in _alternatives(scene, role) if other != known]))


def _alternatives(scene: Scene, role: str) -> Sequence[Detail]:
    if role in ("place", "manner"):
        return {"place": places, "manner": manners}[role]()
    mention: Mention = getattr(scene, role.removesuffix("_quality"))
    return qualities(mention.thing.domain)


def _with_detail(scene: Scene, role: str, detail: Detail | None) -> Scene:
    if role in ("place", "manner"):
        return replace(scene, **{role: detail})  # type: ignore[arg-type]
    holder = role.removesuffix("_quality")
    return replace(scene, **{holder: replace(getattr(scene, holder), quality=detail)})


def change_agent(scene: Scene, split: str, rng: Random) -> Scene:
    """Replace the agent by another of the same domain."""
    return replace(scene, agent=_another(scene.agent, scene, split, rng))


def change_patient(scene: Scene, split: str, rng: Random) -> Scene | None:
    """Replace the patient by another of the same domain."""
    return replace(scene, patient=_another(scene.patient, scene, split, rng)) if scene.patient else None


def _another(mention: Mention, scene: Scene, split: str, rng: Random) -> Mention:
    present = [scene.agent.thing, *([scene.patient.thing] if scene.patient else [])]
    others = [thing for thing in things(split)[mention.thing.domain] if thing not in present]
    return replace(mention, thing=rng.choice(others))


def change_action(scene: Scene, split: str, rng: Random) -> Scene | None:
    """Change the action, with the same agent and patient."""
    fitting = [
        other
        for other in actions()
        if other.patients == scene.action.patients
        and not set(other.words) & set(scene.action.words)
        and scene.agent.thing.domain in other.agents
    ]
    return replace(scene, action=rng.choice(fitting)) if fitting else None


def change_event(scene: Scene, split: str, rng: Random) -> Scene | None:
    """Draw another event with the same agent and place."""
    other = draw_scene(split, rng)
    fits = scene.agent.thing.domain in other.action.agents and other.action.topic != scene.action.topic
    clashes = other.patient is not None and other.patient.thing == scene.agent.thing
    return replace(other, agent=scene.agent, place=scene.place) if fits and not clashes else None


# frequency, and edits in order
PLANS: Sequence[tuple[float, Sequence[Edit]]] = (
    (11, (keep_scene,)),
    (8, (drop_detail,)),
    (5, (generalize,)),
    (4, (change_number,)),
    (9, (change_detail,)),
    (5, (drop_detail, change_number)),
    (5, (change_detail, drop_detail)),
    (8, (change_agent,)),
    (8, (change_patient,)),
    (9, (change_action,)),
    (5, (swap_roles,)),
    (5, (negate,)),
    (5, (change_agent, change_detail)),
    (5, (change_patient, change_number)),
    (4, (change_agent, change_patient)),
    (4, (change_agent, change_action)),
    (4, (change_patient, change_action)),
    (5, (change_event,)),
    (12, (unrelated,)),
)


def derive(scene: Scene, edits: Sequence[Edit], split: str, rng: Random) -> Scene | None:
    """Return the scene after all edits, or None if one of them does not apply."""
    for edit in edits:
        edited = edit(scene, split, rng)
        if edited is None:
            return None
        scene = edited
    return scene


@dataclass(frozen=True)
class Style:
    """The wording of a scene: synonyms, article, tense, construction."""

    register: int  # index of a concept's synonym, modulo their number
    definite: bool
    past: bool
    construction: str


def style(scene: Scene, rng: Random) -> Style:
    """Draw a style that suits the scene."""
    constructions = ["active", "active", "active"]
    if scene.patient:
        constructions += ["passive"]
    if scene.place:
        constructions += ["fronted"]
    return Style(rng.randrange(2), rng.random() < 0.5, rng.random() < 0.3, rng.choice(constructions))


def restyle(scene: Scene, first: Style, rng: Random) -> Style:
    """Draw a style for the second sentence: half of the time with the first's synonyms, mostly in its tense."""
    fresh = style(scene, rng)
    register = first.register if rng.random() < 0.5 else fresh.register
    definite = first.definite if rng.random() < 0.6 else fresh.definite
    return Style(register, definite, first.past if rng.random() < 0.9 else fresh.past, fresh.construction)


def express(scene: Scene, chosen: Style) -> str:
    """Return the scene as a sentence."""
    words = _passive(scene, chosen) if chosen.construction == "passive" else _active(scene, chosen)
    place = _detail(scene.place, chosen)
    words = f"{place}, {words}" if place and chosen.construction == "fronted" else _join(words, place)
    return f"{words[0].upper()}{words[1:]}."


def _active(scene: Scene, chosen: Style) -> str:
    used = _pick(scene.action.words, chosen)
    patient = _phrase(scene.patient, chosen) if scene.patient else ""
    verb = _active_verb(scene, used, chosen)
    return _join(_phrase(scene.agent, chosen), verb, used.particle, patient, _detail(scene.manner, chosen))


def _active_verb(scene: Scene, used: Verb, chosen: Style) -> str:
    if chosen.past:
        return f"did not {used.base}" if scene.negated else used.past
    return _join(_be(scene.agent, chosen), "not" * scene.negated, used.ing)


def _passive(scene: Scene, chosen: Style) -> str:
    assert scene.patient is not None, "only a scene with a patient has a passive"
    used = _pick(scene.action.words, chosen)
    auxiliaries = _join(_be(scene.patient, chosen), "not" * scene.negated, "being" * (not chosen.past))
    verb = _join(auxiliaries, used.participle, used.particle, _detail(scene.manner, chosen))
    return f"{_phrase(scene.patient, chosen)} {verb} by {_phrase(scene.agent, chosen)}"


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _detail(detail: Detail | None, chosen: Style) -> str:
    return _pick(detail.words, chosen) if detail else ""


def _be(subject: Mention, chosen: Style) -> str:
    present, past = ("are", "were") if subject.plural else ("is", "was")
    return past if chosen.past else present


def _phrase(mention: Mention, chosen: Style) -> str:
    named = noun(mention.thing.kind) if mention.general else _pick(mention.thing.words, chosen)
    quality = f"{_pick(mention.quality.words, chosen)} " if mention.quality else ""
    words = quality + (named.pl if mention.plural else named.sg)
    if chosen.definite:
        return f"the {words}"
    return f"some {words}" if mention.plural else with_article(words)


def _pick(words: Sequence[T], chosen: Style) -> T:
    return words[chosen.register % len(words)]


def scored_pair(split: str, rng: Random) -> ScoredPair:
    """Draw a pair in words of the split (`train`, `dev`)."""
    edits = rng.choices([edits for _, edits in PLANS], [weight for weight, _ in PLANS])[0]
    scene = draw_scene(split, rng)
    while (other := derive(scene, edits, split, rng)) is None:
        scene = draw_scene(split, rng)
    first = style(scene, rng)
    one, two = express(scene, first), express(other, restyle(other, first, rng))
    if rng.random() < 0.5:
        one, two = two, one
    return ScoredPair(one, two, noisy_score(scene, other, rng))


def scored_pairs(split: str, rows: int, rng: Random) -> list[ScoredPair]:
    """Generate `rows` distinct pairs of different sentences.

    Raises:
        ValueError: the grammar has no more pairs to give.

    """
    seen: dict[frozenset[str], ScoredPair] = {}
    misses = 0
    while len(seen) < rows:
        pair = scored_pair(split, rng)
        key = frozenset((pair.sentence1, pair.sentence2))
        misses = 0 if len(key) == 2 and key not in seen else misses + 1
        if misses == 0:
            seen[key] = pair
        if misses == MAX_REPEATS:
            raise ValueError(f"{split} holds every pair that the grammar has")
    return list(seen.values())


def words() -> Iterator[str]:
    """Yield the lower-case words of all sentences, with repetitions; hyphens and marks split words."""
    texts = [GRAMMAR_WORDS, PLACES, MANNERS, *QUALITIES.values()]
    texts += [form for kinds in NOUNS.values() for kind in kinds for form in forms(noun(kind))]
    nouns = [word for split in SPLITS for domain in things(split).values() for thing in domain for word in thing.words]
    verbs = [word for action in actions() for word in action.words]
    for text in [*texts, *(form for word in [*nouns, *verbs] for form in forms(word))]:
        yield from WORD.findall(text)
