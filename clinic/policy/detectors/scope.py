"""Scope: how much a typed request asks for what no documentation assistant is for: deceit, harm, discrimination.

Rules kept here:

* For requests to the assistant (a question about the record, a re-draft, instructions), never for a transcript:
  patients and clinicians may speak of anything.
* A pure function from text to a score in 0..1 and the names of the signals; the text itself is never kept.
* A wrong deed counts when somebody is asked to do it or to write for it; a question about facts does not.
* Advisory: a new wording passes.  What holds is that an answer is bound to the record and read by a clinician.

The headings follow the principles of medical ethics of the American Medical Association (honesty, respect for patients'
rights, confidentiality, care first, access to care); the wording is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from clinic.policy.detectors.neutralise import reveal
from clinic.policy.detectors.prefilter import Folded, Sieve

LIMIT = 0.5
"""From this score on a request is out of scope."""


@dataclass(frozen=True, slots=True)
class Scope:
    """How far a request lies outside what the assistant is for.

    Attributes:
        score: 0 (nothing) to 1.
        signals: names of what was found, sorted.
    """

    score: float
    signals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Sign:
    name: str
    weight: float
    sieves: tuple[Sieve, ...]


def _sign(name: str, weight: float, *patterns: str) -> _Sign:
    return _Sign(name, weight, tuple(Sieve.of(rf"\b(?:{pattern})") for pattern in patterns))


_ASKS = Sieve.of(
    r"\b(?:how (?:can|could|might|would|should|do|does|to)|(?:write|draft|create|design|develop|describe|"
    r"list|explain|generate|"
    r"compile|formulate|prepare|compose|craft|outline|detail|devise|advise|advocate|argue|convince|"
    r"produce|construct|propose|provide|"
    r"offer|give|show|suggest|help|tell|discuss|justify|plan|make|conduct|recommend|present|share|"
    r"identify|encourage|promote|use|"
    r"persuade|organi[sz]e|implement|publish|illustrate|teach|form|perform|prescribe|administer|release|"
    r"disclose|ways?|tips|"
    r"strategies|methods|tactics|steps) ?)"
)

_SIGNS = (
    _sign(
        "deceit",
        0.6,
        r"(?:falsif|fabricat|forg(?:e|ing)\b|fak(?:e|ing)\b|misrepresent|mislead|deceiv|decepti|manipulat|"
        r"exaggerat|embellish|"
        r"misinform|disinform|conceal|obscur|tamper|backdat|fraud|plagiari|trick(?:s|ing)?\b|bogus|dishonest|"
        r"downplay|cherry-?pick|"
        r"distort|twist(?:ing)? |counterfeit|misdiagnos|selectively report|secretly|covert|deliberately|"
        r"intentionally|artificially alter|"
        r"under the guise|non-?disclosure)",
        r"(?:non-?existent|fictitious|false(?:ly)?|untrue|unproven|unverified|unsubstantiated|"
        r"pseudoscien\w{1,6}|outdated|debunked)\b",
        r"(?:lie|lies|lying) (?:to|about)|cover(?:ing)? up|hid(?:e|ing) (?!from)|turn(?:ing)? a blind eye|"
        r"look(?:ing)? the other way|"
        r"without (?:getting|being) caught|contrary to (?:\w{1,15} ){0,2}evidence|no (?:proven|real|medical|"
        r"clinical) (?:value|benefit)",
        r"withh[eo]ld\w{0,4}|(?:not|avoid|without|fail\w{0,3}|refus\w{1,3}|neglect\w{0,3}|skip\w{0,4}) (?:to )?"
        r"(?:full(?:y)? |proper(?:ly)? |adequate(?:ly)? )?(?:disclos|inform|tell|explain|mention|discuss|"
        r"report|notify|telling)\w{0,4}",
        r"deny(?:ing)? (?:the )?(?:existence|effectiveness|benefits|risks|role)|discredit\w{0,3}|cast(?:s|"
        r"ing)? doubt|sow\w{0,3} ",
    ),
    _sign(
        "coercion",
        0.6,
        r"(?:coerc|blackmail|intimidat|threaten|pressur(?:e|ing)|forc(?:e|ing) |compel|extort|bully|"
        r"guilt-?trip|bribe|retaliat|"
        r"punish)",
        r"against (?:\w{1,12} ){0,3}(?:wish(?:es)?|will|judge?ment|assessment|better judge?ment|advice|"
        r"consent|preference|beliefs?)",
        r"without (?:\w{1,15} ){0,4}(?:consent|permission|authori[sz]ation|knowledge|approval|supervision|"
        r"anonymi[sz]ing|"
        r"informing|notifying|asking|their knowing|disclosure|explaining|discussing|disclosing|offering|considering)",
        r"be (?:forced|compelled|made|required|coerced|obligated|obliged|pressured) (?:to|into)|override|"
        r"overrul\w{1,3}|"
        r"non-?consent\w{0,4}|unauthori[sz]ed|unqualified|be (?:mandated|directed|instructed|ordered|"
        r"persuaded|pushed) |mandates? |"
        r"without (?:a |an |any |the )?(?:\w{1,15} ){0,2}(?:adhd|deficiency|diagnosis|indication|training|"
        r"imaging|review|matching|"
        r"oversight|evaluation|qualification|prescription|licen[cs]e|ensuring|testing|monitoring)|"
        r"should not be allowed|ignor(?:e|ing) (?:\w{1,12} ){0,3}(?:wishes|consent|refusal|autonomy|"
        r"preference|right|complaint|concern|pain|"
        r"symptom|guideline|protocol|request|need|evidence)",
    ),
    _sign(
        "privacy",
        0.6,
        r"(?:shar|sell|disclos|leak|post|publish|expos|reveal|releas|distribut|broadcast|access|discuss|"
        r"compar|gossip|use|publici[sz])"
        r"(?:e|es|ing|ting)? (?:[\w'/-]{1,20} ){0,5}(?:private|confidential|personal|identifiable|sensitive|"
        r"medical|health|genetic|"
        r"psychiatric|patient'?s?) (?:[\w-]{1,15} ){0,3}(?:information|data|records?|details|histor(?:y|ies)|"
        r"images?|photos?|results?|"
        r"struggles?|condition|diagnos[ie]s|stor(?:y|ies)|evaluation|conversation|"
        r"case)\b(?=.{0,80}\b(?:without|public|social media|"
        r"third|forum|online|compan|gain|blog|research|friend|famil|employer|media|colleague|profit|"
        r"other patients|party|marketing))",
        r"gossip|leak(?:ing)? |(?:discuss|reveal|disclos|retriev|obtain|tell|shar)(?:e|"
        r"ing)? (?:[\w'/-]{1,20} ){0,8}(?:with|to|of|for) (?:[\w'-]{1,15} "
        r"){0,3}(?:family members|friends|neighbou?rs|workplace|employer|media|celebrity|politician|"
        r"parents at|community group|"
        r"column|blog)",
        r"breach(?:ing)? (?:\w{1,12} ){0,2}(?:confidential|privacy)|"
        r"violat\w{1,3} (?:\w{1,12} ){0,3}(?:confidential|privacy|rights?|"
        r"autonomy|consent|ethic|trust)|on social media|publicly (?:sham|compar|shar|discuss|expos|reveal|"
        r"critici[sz]|mock|post)\w{0,4}",
    ),
    _sign(
        "greed",
        0.55,
        r"(?:unnecessar(?:y|ily)|not (?:be )?(?:medically )?(?:necessary|needed)|unneeded|overcharg|upcod|"
        r"overbill|kickback|"
        r"over-?prescrib|over-?treat|double-?bill|upsell)",
        r"(?:financial|personal|monetary|economic|own|commercial|extra|additional|maximum|"
        r"more) (?:\w{1,12} )?(?:gain|profits?|benefit|"
        r"revenue|incentives?|income|interests?|motives?)|(?:for|increase|boost\w{0,3}|maximi[sz]\w{1,3}|"
        r"generate|higher) (?:\w{1,12} )?"
        r"(?:profits?|revenues?|sales|earnings|billing)|profitab\w{1,5}|most expensive|high-?cost|"
        r"to benefit from its sales|"
        r"(?:over|instead of|rather than|ahead of|above) (?:the )?(?:patient|quality)",
        r"priorit\w{1,8} (?:\w{1,15} ){0,4}(?:profit|revenue|billing|cost|money|administrative|financial|"
        r"wealth|efficiency|income|"
        r"paying|insured|personal)",
    ),
    _sign(
        "discrimination",
        0.55,
        r"(?:discriminat|segregat|exclud(?:e|ing)|racist|sexist|bias(?:ed)?\b|stereotyp|stigmati|marginali|"
        r"prejudic|ostraci|deprioriti|preferential)",
        r"(?:based|depending|according) (?:solely |only |purely )?(?:on|to) (?:\w{1,12}'?s? ){0,3}(?:race|"
        r"ethnicit|religio|gender|sex\b|"
        r"sexual orientation|income|abilit(?:y|ies) to pay|wealth|insurance|social|socio|econom|nationality|"
        r"immigration|age\b|appearance|"
        r"payment|financial|lifestyle|political|weight|personal)",
        r"(?:den(?:y|ies|ying)|refus(?:e|es|ing)|restrict\w{0,3}|limit(?:s|ing)?|reject\w{0,3}|"
        r"turn(?:ing)? away|selectively|reserv\w{1,3}) "
        r"(?:[\w'/-]{1,25} ){0,6}(?:treat\w{0,4}|care|surger(?:y|ies)|access|services?|vaccin\w{1,6}|"
        r"therap(?:y|ies)|patients|transplants?|"
        r"medications?|drugs?|help|support|admission|appointments?|screening|procedures?|emergency|resources)",
        r"only (?:\w{1,12} )?(?:treats?|serves?|accepts?|available|offer\w{0,3}|for|to|the|cover|premium|high|"
        r"wealthy|rich)"
        r".{0,50}\b(?:pay|premium|wealthy|rich|income|afford|insur|vip|elite|background)",
        r"patients? (?:with|of|who) (?:a )?(?:\w{1,10} ){0,2}(?:higher|high|low|lower|social)[ -](?:incomes?|"
        r"social|standing|status)|"
        r"(?:premium|vip|wealthy|rich|affluent|high-income|paying|insured|self-pay|"
        r"cash-paying) (?:\w{1,10} )?(?:patients?|payers?|clients?|"
        r"members?|individuals|customers)|(?:uninsured|low-income|poor|underprivileged|disadvantaged|homeless|"
        r"without insurance|medicaid|"
        r"public (?:health )?insurance|undocumented)",
    ),
    _sign(
        "disrespect",
        0.6,
        r"(?:mock|belittl|humiliat|ridicul|sham(?:e|es|ing)\b|insult|demean|dismissive|condescend|jokes?\b|"
        r"humor|sarcas|disrespect|"
        r"demoraliz|dissuad|discourag|impatien|embarrass|blam(?:e|es|ing)\b|patroni[sz]|scold|gaslight|"
        r"trivial|demoni[sz]|fear-?monger|scare\b|rude|harass|sexual "
        r"advance|flirt|romantic|seduc|inappropriate(?:ly)? )",
        r"without (?:\w{1,12} ){0,4}(?:comfort|empath|reassur|support|compassion|regard|resources|sensitivity|"
        r"concern|care|emotion)\w{0,6}|"
        r"(?:rather than|instead of|devoid of|lack(?:s|ing)?) (?:\w{1,12} ){0,3}(?:empath|compass|patient|"
        r"care)\w{0,8}|minimi[sz]\w{1,3} "
        r"(?:the )?(?:patient|symptom|pain|concern|emotional|seriousness|importance)|disregard\w{0,3}|"
        r"indifferen\w{1,3}|insensitiv\w{1,5}",
    ),
    _sign(
        "harm",
        0.6,
        r"(?:euthani[sz]|poison|lethal|overdos(?:e|ing)\b|kill|murder|assault|sabotag|harm(?:ful|ing)?\b|"
        r"torture|endanger|jeopardi|"
        r"undermin|worsen|unsafe|dangerous|hazardous|illegal(?:ly)?|illicit|unethical|negligen|malpractice|"
        r"incompeten|steal|smuggl|"
        r"weaponi|addict(?:ive|ed|ing)\b|non-?medical use|recreational|pirated|bodybuilding|"
        r"cognitive enhancement|experimental purposes|makeshift|gossip|high dose of .{0,30}without|"
        r"terminate .{0,20}life|bomb|hostage|rape)",
        r"self-(?:induce|administ|medicat|perform|treat|adjust|diagnos|prescrib)\w{0,5}|at home without|"
        r"adjust their own|"
        r"bypass\w{0,3}|circumvent\w{0,3}|evad(?:e|ing)|avoid(?:ing)? (?:detection|accountability|"
        r"responsibility|liability|reporting|"
        r"regulat\w{1,6}|oversight|law\w{0,6}|lawsuits?|consequences|legal)|loopholes?|"
        r"skip(?:ping)? (?:\w{1,12} ){0,2}(?:steps?|tests?|"
        r"check|protocol|safety|sterili)\w{0,5}|cut(?:ting)? (?:costs|corners)|first-line treatment for mild|"
        r"in place of (?:conventional|"
        r"proven|standard)|(?:replace|instead of|rather than) (?:\w{1,12} ){0,2}(?:vaccin|chemotherap|insulin|"
        r"antibiotic|medical|"
        r"evidence)\w{0,6}",
        r"(?:neglect|abandon|ignor|delay)(?:s|e|ing)? (?:\w{1,12} ){0,4}(?:care|treatment|duty|duties|patient|"
        r"patients|responsib\w{1,8}|"
        r"emergenc\w{1,3}|diagnosis|follow-?up|health|obligation)|not (?:speak|spoke) out|"
        r"refus\w{1,3} to (?:treat|provide|help|support|"
        r"participate|collaborate|refer|update|learn|contribute|share|engage|acknowledge|take)|(?:promote|"
        r"encourag\w{1,3}|spread\w{0,3}|"
        r"contribut\w{1,3} to) (?:\w{1,12} ){0,3}(?:misinformation|myth|stigma|smoking|unhealthy|unrealistic|"
        r"fear|distrust|hesitan|"
        r"conspirac|unfounded|pseudo)\w{0,5}",
    ),
)


def score(text: str) -> Scope:
    """Score a request to the assistant."""
    plain = " ".join(reveal(text).casefold().replace("\u2019", "'").split())
    folded = Folded(plain)
    if next(_ASKS.finditer(plain, folded), None) is None:
        return Scope(0.0, ())
    found = [sign for sign in _SIGNS if any(next(s.finditer(plain, folded), None) for s in sign.sieves)]
    doubt = 1.0
    for sign in found:
        doubt *= 1.0 - sign.weight
    return Scope(round(1.0 - doubt, 4), tuple(sorted(sign.name for sign in found)))
