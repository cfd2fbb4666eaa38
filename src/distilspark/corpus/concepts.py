"""The concepts of scenes with their synonyms, grouped by kind and domain.

Nouns are partitioned between train and dev as in `lexicon.py`; actions, places and details are shared by both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from distilspark.corpus.lexicon import Share
from distilspark.corpus.morphology import Noun, Verb, noun, verb

PEOPLE = ("person",)
ANIMATE = ("person", "animal")


@dataclass(frozen=True)
class Thing:
    """Synonymous nouns; `kind` is their hypernym."""

    words: tuple[Noun, ...]
    kind: str
    domain: str


@dataclass(frozen=True)
class Detail:
    """Synonymous words or phrases for a place, a manner or a quality."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Action:
    """Synonymous verbs; `patients` is the domain of their object, None if they take none."""

    words: tuple[Verb, ...]
    topic: str
    agents: tuple[str, ...]
    patients: str | None


# domain -> kind -> concepts; "=" joins synonyms, "_" stands for a space
NOUNS: dict[str, dict[str, str]] = {
    "person": {
        "person/people": "man/men=guy woman/women=lady kid=child/children doctor=physician police_officer=cop "
        "soldier=trooper teacher=instructor lawyer=attorney thief/thieves=robber sailor=seaman/seamen actor=performer "
        "tailor=dressmaker athlete=sportsman/sportsmen journalist=reporter tourist=sightseer king=monarch "
        "worker=laborer "
        "pilot=aviator author=writer artist=painter singer=vocalist driver=chauffeur fisherman/fishermen=angler "
        "cyclist=bicyclist pupil=student boss=manager baby=infant chef=cook girl=lass "
        "boy=lad neighbor magician=conjurer"
    },
    "animal": {
        "animal": "dog=hound cat=feline rabbit=bunny pig=hog horse=steed mouse/mice=little_rodent puppy=young_dog "
        "kitten=young_cat hen=chicken wolf/wolves fox cow donkey=mule monkey bear goat lion tiger"
    },
    "produce": {
        "fruit": "apple melon orange banana pear peach mango plum lemon",
        "vegetable": "potato/potatoes=spud carrot onion pepper cucumber tomato/tomatoes cabbage eggplant=aubergine",
    },
    "meal": {
        "dessert": "cake cookie=biscuit pie=tart pudding doughnut muffin",
        "dish": "sandwich=sub hamburger=burger pizza omelet steak=cut_of_beef/cuts_of_beef pancake=flapjack",
    },
    "instrument": {
        "instrument": "guitar violin=fiddle flute piano=keyboard trumpet=horn cello drum harp accordion=squeezebox "
        "banjo clarinet tuba"
    },
    "vehicle": {
        "vehicle": "car=automobile bicycle=bike truck=lorry motorcycle=motorbike boat=ship bus tractor "
        "taxi=cab van airplane=plane scooter wagon=cart"
    },
    "text": {
        "text": "book=volume newspaper=paper magazine=periodical letter poem novel "
        "report story=tale recipe speech=address essay=article contract=agreement"
    },
    "object": {
        "container": "box=carton bag=sack suitcase=piece_of_luggage/pieces_of_luggage basket=hamper bucket=pail",
        "garment": "coat=jacket hat=cap sweater=pullover shirt scarf/scarves=shawl",
        "object": "sofa=couch stone=rock rug=carpet lamp=light picture=painting ladder chair=seat cup=mug",
    },
}
# topic, domain of the patient, domains of the agent, actions
ACTIONS: tuple[tuple[str, str | None, tuple[str, ...], str], ...] = (
    ("eating", "produce", ANIMATE, "eat/ate/eaten=consume"),
    ("cooking", "produce", PEOPLE, "wash=rinse cut/cut/cut/cutting=slice peel"),
    ("trading", "produce", PEOPLE, "buy/bought=purchase sell/sold"),
    ("eating", "meal", ANIMATE, "eat/ate/eaten=consume"),
    ("cooking", "meal", PEOPLE, "make/made=prepare serve=dish/dished/dished+up"),
    ("trading", "meal", PEOPLE, "buy/bought=purchase sell/sold"),
    ("music", "instrument", PEOPLE, "play=practice tune=adjust"),
    ("trading", "instrument", PEOPLE, "buy/bought=purchase sell/sold"),
    ("craft", "instrument", PEOPLE, "repair=fix clean=polish"),
    ("travel", "vehicle", PEOPLE, "drive/drove/driven=steer park"),
    ("craft", "vehicle", PEOPLE, "repair=fix wash=clean paint"),
    ("trading", "vehicle", PEOPLE, "buy/bought=purchase sell/sold"),
    ("reading", "text", PEOPLE, "read/read=study translate"),
    ("writing", "text", PEOPLE, "write/wrote/written=compose copy=duplicate"),
    ("waste", "text", PEOPLE, "throw/threw/thrown+away=discard tear/tore/torn+up=rip/ripped/ripped/ripping+up"),
    ("moving", "object", PEOPLE, "carry=haul lift=raise drop/dropped/dropped/dropping=let/let/let/letting+go_of"),
    ("trading", "object", PEOPLE, "buy/bought=purchase sell/sold"),
    ("hiding", "object", PEOPLE, "hide/hid/hidden=conceal look+for=search+for"),
    ("pursuit", "animate", ANIMATE, "chase=pursue follow=trail"),
    ("looking", "animate", ANIMATE, "watch=observe"),
    ("contact", "animate", ANIMATE, "push=shove scare=frighten touch wake/woke/woken"),
    ("meeting", "person", PEOPLE, "greet=welcome help=assist visit=call+on thank"),
    ("looking", "person", PEOPLE, "photograph"),
    ("resting", None, ANIMATE, "sleep/slept=doze rest=relax"),
    ("running", None, ANIMATE, "run/ran/run/running=sprint jump=leap walk=stroll/strolled/strolled/strolling"),
    ("sound", None, PEOPLE, "shout=yell laugh=chuckle cry=weep/wept talk=chat/chatted/chatted/chatting"),
    ("show", None, PEOPLE, "dance sing/sang/sung"),
    ("water", None, ANIMATE, "swim/swam/swum/swimming"),
)
PLACES = (
    "in the park|in the kitchen|on the beach=at the seaside|in the garden=in the yard|on the road=in the street|"
    "in the forest=in the woods|in the store=in the shop|by the river=near the stream|in the field=in the meadow|"
    "in the parking lot=in the car park|in the cellar=in the basement|at the station|on the hill=on the slope|"
    "in the bedroom|near the bridge|in the city=in the town|outdoors=outside|at the airport|"
    "in the corridor=in the hallway"
)
MANNERS = "quickly=rapidly|slowly=without haste|carefully=with care|quietly=silently|noisily=loudly|calmly=peacefully"
QUALITIES = {
    "person": "happy=cheerful|tired=weary|angry=furious|old=elderly|rich=wealthy|thin=slim|brave=courageous|tall",
    "animal": "little=small|big=large|hungry=starving|black|white|brown",
    "object": "little=small|big=large|new=brand-new|old=aged|red|green|yellow|dirty=filthy|cheap=inexpensive|"
    "lovely=beautiful",
}


def _spaced(entry: str) -> str:
    return entry.replace("_", " ")


def _details(entries: str) -> list[Detail]:
    return [Detail(tuple(entry.split("="))) for entry in entries.split("|")]


def _thing(entry: str, kind: str, domain: str) -> Thing:
    return Thing(tuple(noun(_spaced(word)) for word in entry.split("=")), kind, domain)


def _action(entry: str, topic: str, agents: tuple[str, ...], patients: str | None) -> Action:
    return Action(tuple(verb(_spaced(word)) for word in entry.split("=")), topic, agents, patients)


@cache
def things(split: str) -> Mapping[str, Sequence[Thing]]:
    """Return the split's things by domain; `animate` has all persons and animals."""
    share = Share(split)
    own = {
        domain: share([_thing(entry, kind, domain) for kind, entries in kinds.items() for entry in entries.split()])
        for domain, kinds in NOUNS.items()
    }
    return {**own, "animate": [*own["person"], *own["animal"]]}


@cache
def actions() -> Sequence[Action]:
    """Return all actions."""
    return [
        _action(entry, topic, agents, patients)
        for topic, patients, agents, entries in ACTIONS
        for entry in entries.split()
    ]


@cache
def places() -> Sequence[Detail]:
    """Return the places of scenes."""
    return _details(PLACES)


@cache
def manners() -> Sequence[Detail]:
    """Return the manners of actions."""
    return _details(MANNERS)


@cache
def qualities(domain: str) -> Sequence[Detail]:
    """Return the qualities of a domain; domains without their own have those of objects."""
    return _details(QUALITIES.get(domain, QUALITIES["object"]))
