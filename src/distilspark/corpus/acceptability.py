"""Acceptable English sentences, and minimal violations of one rule each, by phenomenon.

A phenomenon is a list of templates (see `template.py`). An acceptable sentence and its violation come from the
same template with the same fillers. The sample corpus takes one of the two; pretraining may take both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from random import Random

from distilspark.corpus.lexicon import lexicon
from distilspark.corpus.morphology import forms
from distilspark.corpus.template import AFTER, WORD, choose, fill, literals, spell, take, violations

ACCEPTABLE_SHARE = 0.7
EMBEDDED = 0.2  # of the statements
REMARKED = 0.12
MAX_REPEATS = 1000  # consecutive draws without a new sentence


@dataclass(frozen=True)
class Pair:
    """An acceptable sentence and its minimal violation; `phenomenon` names the rule."""

    phenomenon: str
    acceptable: str
    unacceptable: str


@dataclass(frozen=True)
class Judgement:
    """One row: label 1 is acceptable, 0 is not."""

    phenomenon: str
    label: int
    sentence: str


@dataclass(frozen=True)
class Phenomenon:
    """Templates that test one rule; `plain` ones keep their nouns without modifiers."""

    templates: Sequence[str]
    plain: bool = False


EMBEDDINGS = (
    "{name#} (thinks|believes|says|claims|knows|heard|said|is sure) that CLAUSE",
    "the {person#.pl} (think|believe|know|heard|claim) that CLAUSE",
    "the {person#.sg} (thinks|claims|heard|knows|said) that CLAUSE",
    "{name#} told the {person#.sg} that CLAUSE",
    "it is (obvious|clear|true|possible) that CLAUSE",
)
REMARKS = (
    "(apparently|in fact|of course|surprisingly|fortunately|unfortunately), CLAUSE",
    "according to (the {person8.sg}|{name8}), CLAUSE",
    "CLAUSE, although {name8} does not believe it",
    "CLAUSE, and (the {person8.pl} know|{name8} knows) it",
    "CLAUSE, as {name8} (said|told us)",
)

IN_DOMAIN = {
    "agreement": Phenomenon(
        [
            "the {person1.sg} [{laugh1.s}|{laugh1.base}] (every day|all the time|in the {place1.sg})",
            "the {person1.pl} [{leave1.base}|{leave1.s}] (every day|in the {place1.sg}|with {name1})",
            "the {person1.sg} (near|behind|next to) the {thing1.pl} [is|are] {trait1}",
            "the {thing1.pl} (near|behind|next to) the {place1.sg} [are|is] {quality1}",
            "the {person1.pl} who {praise1.base} {name1} [live|lives] in {city1}",
            "the {person1.sg} who {praise1.s} the {person2.pl} [lives|live] in {city1}",
            "the {thing1.sg} that the {person1.pl} {find1.past} [was|were] {quality1}",
            "the {text1.pl} that {name1} {read1.past} [were|was] {mood1}",
            "there [is|are] {thing1.a} (in|behind|near) the {place1.sg}",
            "there [are|is] (two|three|several|many) {thing1.pl} (in|behind|near) the {place1.sg}",
            "(one|each) of the {person1.pl} [has|have] {leave1.participle}",
            "{name1} and {name2} [are|is] {trait1}",
            "the {person1.sg} and the {person2.sg} [were|was] (tired|late|busy)",
            "they [know|knows] the {person1.sg} (well|by name|from {city1})",
        ]
    ),
    "determiner": Phenomenon(
        [
            "{name1} {find1.past} [this|these] {thing1.sg} in {city1}",
            "{name1} {find1.past} [these|this] {thing1.pl} in {city1}",
            "[every|all] {person1.sg} {laugh1.past} (during the {event1.sg}|)",
            "[all|every] {person1.pl} {laugh1.past} (during the {event1.sg}|)",
            "(several|two|three|many|a few) [{person1.pl}|{person1.sg}] {leave1.past} (in the "
            "{place1.sg}|before the {event1.sg})",
            "there is (too much|so much|a little|not much) [{mass1.sg}|{object1.pl}] in the {place1.sg}",
            "there are (too many|so many|several|a few) [{object1.pl}|{mass1.sg}] in the {place1.sg}",
            "the {person1.sg} saw [some|a|many|several] {mass1.sg} (in|behind) the {place1.sg}",
            "{name1} is [{person1.a}|{person1.sg}] (in {city1}|)",
            "[the|these|many] {person1.sg} {praise1.past} {name1}",
            "{name1} {find1.past} [a|] very {quality1} {thing1.sg}",
            "[every|most|both] {text1.sg} in the {place1.sg} was {mood1}",
        ],
        plain=True,
    ),
    "binding": Phenomenon(
        [
            "{name1} {blame1.past} [{name1.himself}|{name1.not_himself}|ourselves] (during the {event1.sg}|in "
            "{city1}|)",
            "the {person1.pl} {blame1.past} [themselves|himself|herself] (in front of {name1}|at the {event1.sg}|)",
            "{name1} thinks that the {person1.pl} {blame1.past} [themselves|{name1.himself}]",
            "{man1} believes that {woman1} {blame1.past} [herself|himself]",
            "{woman1} believes that {man1} {blame1.past} [himself|herself]",
            "the {person1.pl} who met {name1} {blame1.past} [themselves|{name1.himself}]",
            "{man1}'s (sister|mother|aunt|daughter) {blame1.past} [herself|himself]",
            "{woman1}'s (brother|father|uncle|son) {blame1.past} [himself|herself]",
            "[{name1} {blame1.past} {name1.himself}|{name1.himself} {blame1.past} {name1}] at the {event1.sg}",
            "I {blame1.past} [myself|himself|themselves] in front of the {person1.pl}",
            "{man1} thinks that {woman1} {praise1.s} [him|himself]",
            "{woman1} thinks that {man1} {praise1.s} [her|herself]",
            "[the {person1.pl}|{name1}] {blame1.past} each other (at the {event1.sg}|in {city1}|)",
        ],
        plain=True,
    ),
    "word_order": Phenomenon(
        [
            "{name1} {find1.past} the [{quality1} {thing1.sg}|{thing1.sg} {quality1}] (in the {place1.sg}|)",
            "the {person1.sg} (will|can|must|should) [not {leave1.base}|{leave1.base} not] (in the "
            "{place1.sg}|with {name1}|)",
            "{name1} [{often1} {read1.s}|{read1.s} {often1}] the {text1.pl}",
            "{name1} has [already {read1.participle}|{read1.participle} already] the {text1.sg}",
            "{name1} {laugh1.past} [in the {place1.sg}|the {place1.sg} in]",
            "the {person1.sg} {leave1.past} [before the {event1.sg}|the {event1.sg} before]",
            "[all the {person1.pl}|the all {person1.pl}] {leave1.past} (in {city1}|)",
            "[the two {person1.pl}|two the {person1.pl}] {praise1.past} {name1}",
            "{name1} is [a very {trait1} {person1.sg}|very {trait1.a} {person1.sg}|a {person1.sg} very {trait1}]",
            "the {person1.sg} is [{tall1} enough|enough {tall1}] to {leave1.base} in {city1}",
            "the {person1.sg} [{find1.past} the {thing1.sg}|the {thing1.sg} {find1.past}] (in the {place1.sg}|)",
            "the {person1.sg} has [been {laugh1.ing}|{laugh1.ing} been] since the {event1.sg}",
        ],
        plain=True,
    ),
    "argument_structure": Phenomenon(
        [
            "{name1} {laugh1.past} [in front of the {person1.sg}|the {person1.sg}]",
            "{name1} {find1.past} [the {thing1.sg}|] (in the {place1.sg}|after the {event1.sg}|)",
            "the {person1.sg} {praise1.past} [the {person2.sg}|] (in the {place1.sg}|after the {event1.sg}|)",
            "{name1} {give1.past} [the {person1.sg} {text1.a}|{text1.a} the {person1.sg}]",
            "the {person1.sg} {give1.past} the {thing1.sg} [to {name1}|{name1}]",
            "{name1} {donate1.past} [the {thing1.sg} to the {person1.sg}|the {person1.sg} the {thing1.sg}]",
            "{name1} {explain1.past} [the {text1.sg} to the {person1.sg}|the {person1.sg} the {text1.sg}]",
            "the {person1.sg} (put|placed) the {object1.sg} [in the {place1.sg}|]",
            "{name1} (relied [on|]|depended [on|]|looked [at|]|listened [to|]|waited [for|]) the {person1.sg}",
            "[the {object1.sg} {arrive1.past}|{name1} {arrive1.past} the {object1.sg}] (after the "
            "{event1.sg}|in {city1}|)",
            "the {fragile1.sg} [{break1.past}|{damage1.past}] (during the {event1.sg}|in the {place1.sg}|)",
            "[it|the {person1.sg}|the {place1.sg}] (rained|snowed) (in {city1}|during the {event1.sg})",
            "{name1} [told|said|whispered] the {person1.sg} that {name2} was late",
        ]
    ),
    "case": Phenomenon(
        [
            "[{pro1.he}|{pro1.him}] {praise1.past} the {person1.sg} (in the {place1.sg}|)",
            "the {person1.sg} {praise1.past} [{pro1.him}|{pro1.he}] (in the {place1.sg}|)",
            "{name1} bought {thing1.a} for [{pro1.him}|{pro1.he}]",
            "{name1} thinks that [{pro1.he}|{pro1.him}] {laugh1.past}",
            "{name1} wants [{pro1.him}|{pro1.he}] to {leave1.base} (in {city1}|with the {person1.sg}|)",
            "the {person1.sg} believes [{pro1.him}|{pro1.he}] to be {trait1}",
            "the {person1.pl} talked about [{pro1.him}|{pro1.he}] (during the {event1.sg}|)",
            "the {person1.sg} {find1.past} [{pro1.his}|{pro1.he}|{pro1.mine}] {thing1.sg}",
            "[{pro1.he}|{pro1.him}] (can|will|must) {leave1.base} after the {event1.sg}",
        ]
    ),
    "auxiliary": Phenomenon(
        [
            "{name1} has [{read1.participle}|{read1.base}|{read1.ing}] the {text1.sg}",
            "{name1} (can|will|must|should) [{leave1.base}|{leave1.s}|{leave1.past}] (in {city1}|with the "
            "{person1.sg}|)",
            "the {person1.pl} did not [{leave1.base}|{leave1.past}|{leave1.ing}] (in the {place1.sg}|)",
            "the {person1.sg} is [{laugh1.ing}|{laugh1.base}|{laugh1.past}] (in the {place1.sg}|)",
            "[did|was|has] {name1} {find1.base} the {thing1.sg} (in the {place1.sg}|) ?",
            "[has|did|is] the {person1.sg} {find1.participle} the {thing1.sg} ?",
            "where did the {person1.sg} [{find1.base}|{find1.past}] the {thing1.sg} ?",
            "the {person1.sg} (could|might|should) have [{leave1.participle}|{leave1.past}|{leave1.base}]",
            "{name1} [might have|has might|might has] {leave1.participle} (in the {place1.sg}|)",
            "{name1} (will|must|may) [be|is|are] {trait1} (in {city1}|during the {event1.sg})",
            "the {person1.sg} [does not|not|has not] {praise1.base} {name1}",
            "{name1} [has been|is been|has being] {laugh1.ing} since the {event1.sg}",
        ]
    ),
    "polarity": Phenomenon(
        [
            "[no|some] {person1.sg} has ever {read1.participle} this {text1.sg}",
            "[nobody|somebody|everybody] in the {place1.sg} has ever {praise1.participle} {name1}",
            "{name1} [did not {find1.base}|{find1.past}] any {thing1.pl} (in the {place1.sg}|)",
            "{name1} has [never|often|already] {read1.participle} any of the {text1.pl}",
            "[not one|all|most] of the {person1.pl} ever {laugh1.past}",
            "[no {person1.sg} who the {person2.pl} {praise1.past}|the {person1.sg} who no {person2.pl} {praise1.past}] "
            "has ever {leave1.participle}",
            "{name1} [does not know|knows] the {person1.sg} at all",
            "the {person1.sg} has [not|] {read1.participle} the {text1.sg} yet",
            "{name1} [doubts|is sure] that the {person1.sg} has ever {read1.participle} {text1.a}",
            "[only|even] {name1} has ever {read1.participle} the {text1.sg}",
            "the {person1.sg} [hardly|nearly|often] ever {laugh1.s} (in the {place1.sg}|)",
            "{name1} has [often|ever] {praise1.participle} the {person1.sg}",
            "someone has (already|often) {find1.participle} [some|any] {thing1.pl} in the {place1.sg}",
        ],
        plain=True,
    ),
    "filler_gap": Phenomenon(
        [
            "what did {name1} {find1.base} [|the {thing1.sg}] (in the {place1.sg}|after the {event1.sg}|) ?",
            "which {thing1.sg} did {name1} {find1.base} [|the {thing2.sg}|it] (in the {place1.sg}|) ?",
            "the {text1.sg} that {name1} {read1.past} [|it] was {mood1}",
            "who did the {person1.sg} {praise1.base} [|{name1}|him] (in the {place1.sg}|at the {event1.sg}|) ?",
            "this is the {person1.sg} [who|] {praise1.past} {name1}",
            "the {thing1.sg} [that|who|what] {name1} {find1.past} was {quality1}",
            "the {person1.sg} knows what {name1} {find1.past} [|the {thing1.sg}]",
            "this {text1.sg}, {name1} has (never|already) {read1.participle} [|the {text2.sg}]",
            "[what did|did] {name1} {find1.base} (in the {place1.sg}|after the {event1.sg}) ?",
            "did {name1} {find1.base} [the {thing1.sg}|] (in the {place1.sg}|after the {event1.sg}) ?",
            "the {person1.sg} who [|he|she] {praise1.past} {name1} lives in {city1}",
        ]
    ),
    "inversion": Phenomenon(
        [
            "{name1} (wonders|knows|remembers) [what the {person1.sg} {find1.past}|what did the {person1.sg} "
            "{find1.base}]",
            "the {person1.sg} asked (why|when|where|how) [{name1} {leave1.past}|did {name1} {leave1.base}]",
            "{name1} wonders how (old|tall|rich) [the {person1.sg} is|is the {person1.sg}]",
            "[what did {name1} {find1.base}|what {name1} {find1.past}] (in the {place1.sg}|after the {event1.sg}) ?",
            "which {thing1.sg} [did the {person1.sg} {find1.base}|the {person1.sg} {find1.past}] ?",
            "(why|when|where) [did the {person1.sg} {leave1.base}|the {person1.sg} {leave1.past}] ?",
            "is the {person1.sg} [who is {trait1} in the {place1.sg}|who {trait1} is in the {place1.sg}] ?",
            "(where|when) [can|] the {person1.sg} [|can] {leave1.base} ?",
            "[never has {name1}|never {name1} has] {praise1.participle} the {person1.sg}",
            "(where|when|why) [has {name1}|{name1} has] {leave1.participle} ?",
        ]
    ),
    "raising": Phenomenon(
        [
            "there [seems|hopes|tries|wants] to be {thing1.a} in the {place1.sg}",
            "it [seems|tries|wants] that {name1} {laugh1.past} (at the {event1.sg}|)",
            "there is [likely|eager|willing] to be {text1.a} in the {place1.sg}",
            "it is [likely|eager|willing] that {name1} will {leave1.base}",
            "{name1} [seems|seems that] to be {trait1} (in {city1}|at the {event1.sg}|)",
            "the {person1.sg} seems [to be|is] {trait1} (in {city1}|at the {event1.sg}|)",
            "it seems that [{name1} is {trait1}|{name1} to be {trait1}]",
            "the {person1.pl} {persuade1.past} [{name1}|there] to {leave1.base}",
            "{name1} [expected|persuaded|forced] there to be {thing1.a} in the {place1.sg}",
            "the {text1.sg} is (easy|hard|difficult) to {read1.base} [|it]",
            "the {text1.sg} is [easy|eager|willing] to {read1.base}",
            "{name1} (hopes|wants|tries) to [be|be that] {trait1}",
            "the {person1.sg} [hopes|seems] that {name1} {laugh1.past}",
        ]
    ),
    "passive": Phenomenon(
        [
            "the {text1.sg} was [{read1.participle}|{read1.base}|{read1.ing}] by {name1}",
            "{name1} was [{praise1.participle}|{laugh1.participle}] by the {person1.sg}",
            "the {object1.sg} was [{find1.participle}|{arrive1.participle}] by the {person1.pl}",
            "the {object1.sg} [was|has|did] {find1.participle} by {name1} (in the {place1.sg}|)",
            "the {person1.sg} was {praise1.participle} [by {name1}|{name1}] (in the {place1.sg}|)",
            "{name1} was [{give1.participle}|{explain1.participle}] the {text1.sg} by the {person1.sg}",
            "[{name1} resembles the {person1.sg}|the {person1.sg} is resembled by {name1}]",
            "[{name1} has {thing1.a}|{thing1.a} is had by {name1}] in the {place1.sg}",
            "the {person1.sg} [{laugh1.past}|was {laugh1.participle}] (in the {place1.sg}|after the {event1.sg})",
        ]
    ),
    "comparison": Phenomenon(
        [
            "{name1} is [{tall1.er}|more {tall1.er}|{tall1}] than the {person1.sg}",
            "the {person1.sg} is as {trait1} [as|than] {name1}",
            "{name1} is more {careful1} [than|as] the {person1.sg}",
            "{name1} is [more|] {careful1} than the {person1.sg}",
            "{name1} is the [{tall1.est}|most {tall1.est}] {person1.sg} in {city1}",
            "{name1} is [much|very] {tall1.er} than the {person1.sg}",
            "the {person1.sg} is [very|much] {trait1} (in {city1}|)",
            "{name1} {find1.past} more {object1.pl} [than|as|that] the {person1.sg}",
            "{name1} {find1.past} as many {object1.pl} [as|than] the {person1.sg}",
            "the {person1.sg} was so {trait1} [that|than] {name1} {leave1.past}",
            "the {person1.sg} was too (tired|weak|nervous) [to|that] {leave1.base} after the {event1.sg}",
        ],
        plain=True,
    ),
    "complementation": Phenomenon(
        [
            "the {person1.sg} {decide1.past} [to {leave1.base}|{leave1.ing}|{leave1.base}] (in {city1}|after "
            "the {event1.sg}|)",
            "{name1} {enjoy1.s} [{read1.ing}|to {read1.base}|{read1.base}] {text1.pl}",
            "{name1} {persuade1.past} [the {person1.sg} to|to] {leave1.base}",
            "{name1} {persuade1.past} the {person1.sg} [to {leave1.base}|{leave1.base}|{leave1.ing}]",
            "{name1} made the {person1.sg} [{leave1.base}|to {leave1.base}|{leave1.ing}] (after the {event1.sg}|)",
            "the {person1.sg} (thinks|hopes|believes|claims) [that|whether] {name1} {leave1.past}",
            "the {person1.sg} wonders [whether|that] {name1} {leave1.past}",
            "the {person1.sg} tried [to {leave1.base}|{name1} to {leave1.base}|that {name1} {leave1.past}]",
            "{name1} wants [the {person1.sg} to {leave1.base}|that the {person1.sg} {leave1.s}]",
            "{name1} (can|will|must|should) [|to] {read1.base} the {text1.sg}",
            "the {person1.pl} want [to {leave1.base}|{leave1.base}|{leave1.ing}] (in {city1}|after the {event1.sg}|)",
        ]
    ),
    "island": Phenomenon(
        [
            "what did {name1} [say that|wonder whether|ask whether] the {person1.sg} {find1.past} ?",
            "what did {name1} [say that the {person1.sg} {find1.past}|meet the {person1.sg} who {find1.past}] ?",
            "what did {name1} [hear that|hear the rumor that|believe the claim that] the {person1.sg} {find1.past} ?",
            "what did {name1} [say that|laugh because|cough after|sleep before] the {person1.sg} {find1.past} ?",
            "who did [{name1} {read1.base} {text1.a} about|{text1.a} about surprise {name1}] ?",
            "[whose {thing1.sg} did {name1} {find1.base}|whose did {name1} {find1.base} {thing1.sg}] ?",
            "[which {thing1.sg} did the {person1.sg} {find1.base}|which did the {person1.sg} {find1.base} "
            "{thing1.sg}] ?",
            "this is the {text1.sg} that {name1} [said that|asked why|laughed because] the {person1.sg} {read1.past}",
            "did {name1} (laugh|cough|sleep) (because|after|before) the {person1.sg} {find1.past} [the {thing1.sg}|] ?",
            "did {name1} (wonder|ask) whether the {person1.sg} {find1.past} [the {thing1.sg}|] ?",
            "did {name1} (hear|believe) the (rumor|claim) that the {person1.sg} {find1.past} [the {thing1.sg}|] ?",
            "did {name1} meet the {person1.sg} who {find1.past} [the {thing1.sg}|] ?",
        ]
    ),
    "possessive": Phenomenon(
        [
            "[{name1}'s|{name1}|the {name1}'s] {thing1.sg} was {quality1}",
            "[{name1}'s {thing1.sg}|{thing1.sg} {name1}'s] {arrive1.past} (in {city1}|after the {event1.sg}|)",
            "the {person1.sg} {find1.past} {thing1.a} of [{pro1.mine}|{pro1.he}]",
            "the {person1.sg} {find1.past} [{pro1.his}|the {pro1.his}|{pro1.his} the] {thing1.sg} (in the "
            "{place1.sg}|)",
            "this {thing1.sg} is [{pro1.mine}|{pro1.his}]",
            "[the {person1.sg}'s {thing1.sg}|the {thing1.sg} {person1.sg}'s] was {quality1}",
            "{name1} {praise1.past} [the {person1.sg}'s|the the {person1.sg}'s|this the {person1.sg}'s] {text1.sg}",
        ],
        plain=True,
    ),
    "adverbial": Phenomenon(
        [
            "the {person1.sg} {leave1.past} [yesterday|tomorrow|next week] (with {name1}|in {city1}|)",
            "{name1} will {leave1.base} [tomorrow|yesterday|last week] (with the {person1.sg}|in {city1}|)",
            "the {person1.sg} [{find1.past}|will {find1.base}] the {thing1.sg} (last week|two days ago|yesterday)",
            "{name1} {leave1.past} [during|while] the {event1.sg}",
            "{name1} {laugh1.past} [while|during] the {person1.sg} was {leave1.ing}",
            "the {person1.sg} {leave1.past} [because of|because] the {event1.sg}",
            "the {person1.sg} {leave1.past} [because|because of] (the {person2.sg}|{name1}) was (ill|late|tired)",
            "the {person1.sg} {leave1.past} [despite|although] the {event1.sg}",
            "the {person1.sg} {leave1.past} [although|despite] (the {person2.sg}|{name1}) was (ill|late|tired)",
            "{name1} has lived in {city1} [for|since] (two weeks|three years|many years)",
        ]
    ),
}
OUT_OF_DOMAIN = {
    "tag_question": Phenomenon(
        [
            "{name1} has {leave1.participle}, hasn't [{name1.he}|{name1.not_he}|him] ?",
            "the {person1.pl} will {leave1.base}, [won't|don't|aren't] they ?",
            "the {person1.pl} {laugh1.past}, didn't [they|she|it] ?",
            "{name1} is {trait1}, [isn't|doesn't|hasn't] {name1.he} ?",
            "there is {thing1.a} in the {place1.sg}, isn't [there|she|he] ?",
            "{name1} {find1.past} the {thing1.sg}, [didn't|wasn't|hasn't] {name1.he} ?",
        ],
        plain=True,
    ),
    "coordination": Phenomenon(
        [
            "what did {name1} {find1.base} [and {damage1.base}|and the {thing1.sg}|the {thing1.sg} and] ?",
            "what did {name1} {find1.base} and {name2} {damage1.base} [|the {thing1.sg}] ?",
            "who did the {person1.sg} {praise1.base} [and {praise2.base}|and {name1}|{name1} and] ?",
            "did {name1} {find1.base} the {thing1.sg} [and the {thing2.sg}|the {thing2.sg}|and the] ?",
            "{name1} {find1.past} the {thing1.sg} and [the {thing2.sg}|{quality1}|in the]",
            "the {trait1} and [{trait2}|{leave1.base}] {person1.sg} {laugh1.past}",
            "both {name1} [and|or|but] the {person1.sg} {laugh1.past}",
            "either {name1} [or|and|but] the {person1.sg} {find1.past} the {thing1.sg}",
            "neither {name1} [nor|and] the {person1.sg} has {leave1.participle}",
            "{name1} {laugh1.past} [but|but and|and but] the {person1.sg} {leave1.past}",
        ],
        plain=True,
    ),
    "that_trace": Phenomenon(
        [
            "who does {name1} (think|say|believe) [|that] {praise1.past} the {person1.sg} ?",
            "who does {name1} (think|say|believe) [|that] will {leave1.base} (in {city1}|after the {event1.sg}|) ?",
            "which {person1.sg} did {name1} (say|think|claim) [|that] {laugh1.past} ?",
            "who does the {person1.sg} want [|for|that] to {leave1.base} (in {city1}|after the {event1.sg}|) ?",
            "which {thing1.sg} does {name1} believe [|that] was {find1.participle} by the {person1.sg} ?",
            "who does {name1} (think|say|believe) (that |)the {person1.sg} {praise1.past} [|him|them] ?",
        ]
    ),
    "particle": Phenomenon(
        [
            "the {person1.sg} {find1.past} the {thing1.sg} and {pick1.past} [it {pick1.particle}|{pick1.particle} it]",
            "{name1} {pick1.past} [the {thing1.sg} {pick1.particle}|the {pick1.particle} {thing1.sg}]",
            "{name1} {pick1.past} [{pick1.particle} the {thing1.sg}|the {pick1.particle} {thing1.sg}] (in the "
            "{place1.sg}|)",
            "{name1} (looked [at the {person1.sg}|the {person1.sg} at]|listened [to the {person1.sg}|the "
            "{person1.sg} to])",
            "the {person1.sg} (waited [for {name1}|{name1} for]|relied [on {name1}|{name1} on])",
            "the {thing1.sg} was {pick1.participle} [{pick1.particle}|it {pick1.particle}] by {name1}",
        ],
        plain=True,
    ),
    "ellipsis": Phenomenon(
        [
            "{name1} {modal1} {leave1.base}, and the {person1.sg} [{modal1}|is|was] too",
            "{name1} {laugh1.past}, and the {person1.sg} [did|was|is] too",
            "{name1} {laugh1.past}, and so [did|was|is] the {person1.sg}",
            "{name1} did not {leave1.base}, and [neither did|neither was|so was] the {person1.sg}",
            "{name1} did not {leave1.base}, and neither [did the {person1.sg}|the {person1.sg} did]",
            "{name1} {find1.past} the {thing1.sg}, and {name2} [the {thing2.sg}|the]",
            "someone {find1.past} the {thing1.sg}, but {name1} does not know [who|whether|that]",
            "{name1} {find1.past} two {object1.pl}, and the {person1.sg} {find1.past} [three|every|the]",
        ],
        plain=True,
    ),
}
PHENOMENA = IN_DOMAIN | OUT_OF_DOMAIN


def contrast(phenomenon: str, split: str, rng: Random) -> Pair:
    """Draw a minimal pair of the phenomenon, in words of the split (`train`, `dev`)."""
    about = PHENOMENA[phenomenon]
    template = choose(frame(rng.choice(about.templates), rng), rng)
    broken = rng.randint(1, violations(template))
    fillers = fill(template, lexicon(split), rng, about.plain)
    pair = Pair(phenomenon, spell(take(template, 0), fillers), spell(take(template, broken), fillers))
    return pair if pair.acceptable != pair.unacceptable else contrast(phenomenon, split, rng)


def frame(template: str, rng: Random) -> str:
    """Embed some of the statements in a larger sentence, and add a remark to some."""
    if template.endswith("?"):
        return template
    for own in "67":  # separate digits for the fillers of each level
        if rng.random() < EMBEDDED:
            template = rng.choice(EMBEDDINGS).replace("#", own).replace("CLAUSE", template)
    if rng.random() < REMARKED:
        template = rng.choice(REMARKS).replace("CLAUSE", template)
    return template


def judgements(split: str, rows: int, rng: Random) -> list[Judgement]:
    """Generate `rows` different sentences, 70 % of them acceptable, evenly distributed over phenomena.

    Train has only the in-domain phenomena; dev has them in its first half, and in its second half those that train
    does not have.

    Raises:
        ValueError: the grammar has no more sentences to give.

    """
    out_of_domain = rows // 2 if split == "dev" else 0
    seen: set[str] = set()
    inside = _draw(list(IN_DOMAIN), split, rows - out_of_domain, rng, seen)
    return inside + _draw(list(OUT_OF_DOMAIN), split, out_of_domain, rng, seen)


def _draw(phenomena: list[str], split: str, rows: int, rng: Random, seen: set[str]) -> list[Judgement]:
    sources = [phenomena[at % len(phenomena)] for at in range(rows)]
    acceptable = round(ACCEPTABLE_SHARE * rows)
    labels = [1] * acceptable + [0] * (rows - acceptable)
    rng.shuffle(sources)
    rng.shuffle(labels)
    drawn = zip(sources, labels, strict=True)
    return [row for source, label in drawn for row in _judge(source, [label], split, rng, seen)]


def minimal_pairs(split: str, rows: int, rng: Random) -> list[Judgement]:
    """Generate `rows` different sentences of all phenomena; each violation follows its acceptable sentence.

    Further acceptable sentences bring their share to 70 %.

    Raises:
        ValueError: the grammar has no more sentences to give.

    """
    acceptable = round(ACCEPTABLE_SHARE * rows)
    labels = [[1, 0]] * (rows - acceptable) + [[1]] * (2 * acceptable - rows)
    rng.shuffle(labels)
    seen: set[str] = set()
    drawn = zip(cycle(PHENOMENA), labels, strict=False)
    return [row for source, wanted in drawn for row in _judge(source, wanted, split, rng, seen)]


def _judge(phenomenon: str, labels: list[int], split: str, rng: Random, seen: set[str]) -> list[Judgement]:
    """Return the sentences of one minimal pair that have these labels, none of them in `seen`."""
    for _ in range(MAX_REPEATS):
        pair = contrast(phenomenon, split, rng)
        sentences = [pair.acceptable if label else pair.unacceptable for label in labels]
        if seen.isdisjoint(sentences):
            seen.update(sentences)
            return [Judgement(phenomenon, *row) for row in zip(labels, sentences, strict=True)]
    raise ValueError(f"{split} holds every sentence that the grammar has for {phenomenon}")


def words() -> Iterator[str]:
    """Yield the lower-case words of all sentences, with repetitions; apostrophes and marks split words."""
    templates = [template for about in PHENOMENA.values() for template in about.templates]
    phrases = [phrase for after in AFTER.values() for phrase in after]
    yield "an"
    for text in [*templates, *phrases, *EMBEDDINGS, *REMARKS]:
        yield from literals(text.replace("CLAUSE", ""))
    for split in ("train", "dev"):
        for entries in lexicon(split).values():
            for form in chain.from_iterable(map(forms, entries)):
                yield from WORD.findall(form.lower())
