"""What identifiers look like: kinds with patterns, as data for `identifiers`.

Rules kept here:

* A kind is the HIPAA Safe Harbor name in lower case (`medical_record_number`), plus `street_address`, `date_of_birth`
  and `national_id`.
* `DIRECT_SHAPES` name a person by themselves and are redacted; `CONTEXT_SHAPES` are reported only.
* Where a pattern has a group `value`, only that is the identifier; the words before it are how it was recognised.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from clinic.policy.detectors.names import GIVEN, NO_SURNAME


def _any(_: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Shape:
    """One way to write one kind of identifier; `accepts` has the last word on a match."""

    kind: str
    pattern: re.Pattern[str]
    accepts: Callable[[str], bool] = _any


def _shape(kind: str, pattern: str, accepts: Callable[[str], bool] = _any) -> Shape:
    return Shape(kind, re.compile(pattern), accepts)


def _digits(text: str) -> int:
    return sum(c.isdigit() for c in text)


def _is_phone(text: str) -> bool:
    return 7 <= _digits(text) <= 15  # noqa: PLR2004 - ITU E.164


def _is_number(text: str) -> bool:
    return _digits(text) >= 3  # noqa: PLR2004 - fewer are a dose, an age or a room


def _is_nhs(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()]
    check = 11 - sum(d * w for d, w in zip(digits, range(10, 1, -1), strict=False)) % 11
    return len(digits) == 10 and digits[9] == check % 11  # noqa: PLR2004 - ten digits, modulus 11


def _is_iban(text: str) -> bool:
    return _digits(text) > 9  # noqa: PLR2004 - letters alone are words


def _is_card(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(reversed(digits))]
    return 12 <= len(digits) <= 19 and sum(doubled) % 10 == 0  # noqa: PLR2004 - Luhn


def _is_full_name(text: str) -> bool:
    first, *rest = re.split(r"[\s.]+", text.strip(". "))
    return first.casefold() in GIVEN and all(len(word) == 1 or word.casefold() not in NO_SURNAME for word in rest)


def _is_titled(text: str) -> bool:
    return text.split()[1].casefold() not in NO_SURNAME


def _is_given(text: str) -> bool:
    return text.casefold() in GIVEN


MONTHS = (
    r"jan(?:uary|\.)?",
    r"feb(?:ruary|\.)?",
    r"mar(?:ch|\.)?",
    r"apr(?:il|\.)?",
    r"may",
    r"june?\.?",
    r"july?\.?",
    r"aug(?:ust|\.)?",
    r"sept?(?:ember|\.)?",
    r"oct(?:ober|\.)?",
    r"nov(?:ember|\.)?",
    r"dec(?:ember|\.)?",
)

_MONTH = rf"(?:{'|'.join(MONTHS)})"
_DAY = r"(?:the\s+)?(?:[12]?\d|3[01]|0\d)(?:st|nd|rd|th)?"
_YEAR = r"(?:(?:19|20)\d\d|['\u2019]\d\d)"
_DATE = (
    rf"(?:(?:19|20)\d\d[-/.](?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12]\d|3[01])"
    rf"|(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|[12]\d|3[01])[-/.](?:\d{{4}}|\d\d)"
    rf"|{_MONTH}\s+{_DAY}(?:\s?,?\s+{_YEAR})?|{_DAY}\s+(?:of\s+)?{_MONTH}(?:\s?,?\s+{_YEAR})?|{_MONTH},?\s+{_YEAR})"
)
_SPOKEN_DIGIT = r"(?:zero|oh|one|two|three|four|five|six|seven|eight|nine|double|triple|\d)"
_SPOKEN_DATE = (
    r"(?:the\s+)?(?:twenty[\s-]|thirty[\s-])?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|"
    r"eleventh|"
    r"twelfth|thirteenth|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|thirtieth)"
)
_SPOKEN_YEAR = r"(?:nineteen|twenty|two\s+thousand)(?:[\s-]+(?:and\s+)?\w+){1,2}"
_ANY_DATE = (
    rf"(?:{_DATE}|{_SPOKEN_DATE}\s+(?:of\s+)?{_MONTH}(?:,?\s+(?:{_YEAR}|{_SPOKEN_YEAR}))?"
    rf"|{_MONTH}\s+{_SPOKEN_DATE}(?:,?\s+(?:{_YEAR}|{_SPOKEN_YEAR}))?)"
)

# What stands between a label and its value: "MRN: ", "record number is ", "ID# ", "number, that's ".
_LINK = (
    r"(?:\s*(?:\(|number|num\b|no\b\.?|nr\b\.?|id\b|code|card|is|was|of|reads|\u2019s|'s|it|that|will be|be|the|"
    r"as|[:#=,;.\u2013-]))*\s*"
)
_CODE = (
    r"(?P<value>#?(?:[a-z]{1,6}[- ]?)?\d[a-z\d]*(?:[-./][a-z\d]+)*|#?[a-z]{1,5}(?:-[a-z]{1,5})?[-#]?\d[a-z\d-]*"
    rf"|{_SPOKEN_DIGIT}(?:[\s,-]+{_SPOKEN_DIGIT}){{3,}})(?![\w])"
)
_NAME_WORD = (
    r"(?:(?:Mc|Mac|O['\u2019]|D['\u2019]|van |von |de |del |la |al-|"
    r"El-)?[A-Z\u00c0-\u00de][a-z\u00df-\u00ff]+(?:-[A-Z\u00c0-\u00de][a-z\u00df-\u00ff]+)*)"
)
_INITIAL = r"[A-Z]\b\.?"


def _labelled(kind: str, labels: str) -> Shape:
    return _shape(kind, rf"(?i)\b(?:{labels})\b{_LINK}{_CODE}", _is_enough)


def _is_enough(text: str) -> bool:
    spoken = len(re.findall(r"[a-z]{3,}", text.casefold()))
    return _digits(text) >= 3 or spoken >= 4  # noqa: PLR2004 - an id, not a count


DIRECT_SHAPES: tuple[Shape, ...] = (
    # --- numbers that follow their name -----------------------------------------------------------------
    _labelled(
        "medical_record_number",
        r"e?mrns?|emr|ehr|m\.r\.n\.?|med(?:ical)?\.? ?rec(?:ord)?s?\.?|(?:hospital|patient|health) record|"
        r"record (?:number|no|num|id|#)|"
        r"rec(?:ord)?\.? ?(?:no|num|#)|chart(?: number| no| id|(?= ?#))|patient(?:'s)? (?:id|identifier|number|"
        r"no|identification)|"
        r"pt\.? ?(?:id|#|no)|hospital (?:number|id|no)|mr ?#|file (?:number|no)|case (?:number|no|id)",
    ),
    _labelled(
        "health_plan_beneficiary_number",
        r"insurance(?: (?:id|policy|member|plan|number|no|card))*|ins\.? ?(?:id|#|no)|health[- ]?(?:plan|insurance)"
        r"(?: (?:id|beneficiary|member|number|no))*|(?:plan|beneficiary|member|policy|subscriber|group|payer|hp|"
        r"hpb|hpbn|hpn)"
        r"(?: ?(?:id|beneficiary|number|no|num|#))+|medicare|medicaid|hpbn|hpb|hmo|beneficiary|member",
    ),
    _labelled(
        "social_security_number",
        r"ssns?|s\.s\.n\.?|ss ?(?:#|no\.?|number)|soc(?:ial)?\.? ?sec(?:urity)?\.?|social security|ss",
    ),
    _labelled(
        "account_number",
        r"account|acct\.?|a/c|billing (?:id|number|no|account)|invoice|licen[cs]e|dl ?#|passport|"
        r"driver'?s? licen[cs]e|"
        r"national (?:id|insurance)|ni number|credit card|card number",
    ),
    _labelled(
        "unique_identifier",
        r"(?:unique |study |trial |device |serial |ref(?:erence)?\.? |employee |tax |case |identification |health )?"
        r"(?:id|identifier|identification|serial|reference|ref)(?: ?(?:number|no|code|#))*",
    ),
    _labelled("fax_number", r"fax"),
    _labelled("national_id", r"nhs|chi number|h(?:ealth)? ?c(?:ard)? number|aadhaar|national identity"),
    # --- numbers by their shape ---------------------------------------------------------------------------
    _shape("social_security_number", r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"),
    _shape("national_id", r"(?<![\w-])\d{3}[ -]?\d{3}[ -]?\d{4}(?![\w-])", _is_nhs),
    _shape("account_number", r"(?<![\w-])\d(?:[ -]?\d){11,18}(?![\w-])", _is_card),
    _shape(
        "account_number",
        r"(?i)(?<![\w-])[a-z]{2}\d{2}(?: ?[a-z\d]{4}){3,7}(?: ?[a-z\d]{1,3})?(?![\w-])",
        _is_iban,
    ),
    _shape("unique_identifier", r"(?<![\w.-])#?[A-Z]{1,4}-?\d{5,}(?:-\d+)?(?![\w-])"),
    _shape("unique_identifier", r"(?<![\w.,/-])\d{7,12}(?![\w.,/-]|\s?(?:mg|ml|units|cells|copies|IU))"),
    _shape(
        "phone_number", r"(?<![\w.-])(?:\+?\d{1,3}[\s.-]?)?\(\d{2,5}\)[\s.-]?\d{3,4}[\s.-]?\d{3,4}(?!\w)", _is_phone
    ),
    _shape("phone_number", r"(?<![\w.-])(?:\+?1[\s.-])?\d{3}[\s.-]\d{3}[\s.-]\d{4}(?:\s?x\d+)?(?![\w-])", _is_phone),
    _shape("phone_number", r"(?<![\w.])\+\d{1,3}(?:[\s.()-]{0,2}\d){6,12}(?!\w)", _is_phone),
    _shape("phone_number", r"(?<![\w.-])0\d{2,4}[\s.-]?\d{3,4}[\s.-]?\d{3,4}(?![\w-])", _is_phone),
    _shape("phone_number", r"(?<![\w.-])0\d(?:[\s.-]\d\d){3,5}(?![\w-])", _is_phone),
    _shape("phone_number", r"(?<![\w.-])001(?:-\d{3}){2}-\d{4}(?![\w-])"),
    _shape(
        "phone_number",
        r"(?i)\b(?:phone|telephone|tel\.?|mobile|cell|call(?: me| us| her| him| them)?|reach(?: me| her| him)?|"
        r"text(?: me)?|"
        r"contact|number|ring)\b[^.\d]{0,30}(?P<value>\(?\+?\d[\d\s().-]{5,16}\d)(?![\w])",
        _is_phone,
    ),
    _shape("phone_number", rf"(?i)\b{_SPOKEN_DIGIT}(?:[\s,-]+{_SPOKEN_DIGIT}){{6,}}\b", lambda t: _digits(t) != 1),
    # --- contacts -------------------------------------------------------------------------------------------
    _shape("email_address", r"(?i)(?<![\w.+-])[\w.+-]{1,64}@[a-z\d-]{1,63}(?:\.[a-z\d-]{2,63})+"),
    _shape(
        "email_address",
        r"(?i)\b[\w]{2,30}(?: (?:dot|underscore|dash) \w{1,30}){0,3} at \w{2,30} dot (?:com|org|net|edu|co|gov|"
        r"\w{2})\b",
    ),
    _shape("ip_address", r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.]\w)"),
    _shape("ip_address", r"(?i)(?<![\w:])(?:[\da-f]{1,4}:){7}[\da-f]{1,4}(?![\w:])"),
    _shape("url", r"(?i)\b(?:https?://|www\.)[^\s<>\"')]+"),
    # --- where somebody lives ---------------------------------------------------------------------------
    _shape(
        "street_address",
        rf"(?<![\w-])\d{{1,5}}[A-Za-z]?,?\s+(?:[NSEW]\.?\s+)?(?:{_NAME_WORD}\s+|\d+(?:st|nd|rd|th)\s+){{1,3}}"
        r"(?i:street|st|avenue|ave|road|rd|lane|ln|drive|dr|boulevard|blvd|court|ct|way|place|pl|terrace|close|"
        r"crescent|square|"
        r"sq|parkway|pkwy|highway|hwy|circle|cir|gardens|grove|row|walk|mews|hill)\b\.?"
        rf"(?:,?\s+(?i:apt|apartment|suite|unit|flat|#)\.?\s*#?\w+)?(?:,\s*{_NAME_WORD}(?:\s{_NAME_WORD})?)?"
        r"(?:,?\s+[A-Z]{2})?(?:\s+\d{5}(?:-\d{4})?)?",
    ),
    _shape("street_address", r"\bP\.?\s?O\.?\s+[Bb]ox\s+\d+"),
    _shape("street_address", r"(?<![\w-])[A-Z]{1,2}\d[A-Z\d]?\s\d[A-Z]{2}(?![\w-])"),  # a British postcode
    _shape(
        "street_address",
        r"(?i)\b(?:zip(?: ?code)?|postal code|post ?code)\b\s*(?:is|:)?\s*(?P<value>[a-z\d]{3,5}[ -]?[a-z\d]{2,4})\b",
        _is_number,
    ),
    _shape(
        "street_address",
        r"(?i:\b(?:i live|lives?|living|resides?|residing|address is|home is) (?:at|"
        r"on)\s)(?P<value>(?:number )?\d{1,5}[A-Za-z]?,? [A-Z][\w']+(?:\s[A-Z][\w']+){0,3})",
    ),
    # --- who somebody says they are ----------------------------------------------------------------------
    _shape(
        "date_of_birth",
        rf"(?i)\b(?:d\.?o\.?b\.?|date of birth|birth ?date|birth ?day|born)\b{_LINK}(?:on\s+|"
        rf"in\s+)?(?P<value>{_ANY_DATE})(?!\w)",
    ),
    _shape(
        "name",
        rf"\b(?i:my (?:full |first |last |family |sur)?name(?: is|'s|\u2019s)|(?:first|last|full|patient|pt|"
        rf"family|patient's|sur)[ ]?name"
        rf"(?:\s+is|:)|name:|(?:i am|i'm|i\u2019m|this is) (?:mr|mrs|ms|miss)\.?)\s+(?:(?i:mr|mrs|ms|miss)\.?\s+)?"
        rf"(?P<value>{_NAME_WORD}(?:\s+{_INITIAL})?(?:\s+{_NAME_WORD}){{0,2}})",
    ),
)

_TITLE = r"(?:Drs?|Mr|Mrs|Ms|Miss|Prof|Professor|Doctor|Nurse|Sister|Master|Mx|Rev|Sir|Lady)"
_FACILITY = (
    r"(?:Hospitals?|Hosp|Clinics?|Medical|Med|Cent(?:er|re)|Ctr|Health(?:care)?|Infirmary|Hospice|Institute|"
    r"Practice|Surgery|"
    r"Presbyterian|Pharmacy|Office|VA|Ward|Rehab(?:ilitation)?|General|Memorial|Urgent Care|Family Practice|"
    r"Group|Systems?|"
    r"ER|ED|Univ(?:ersity)?|School|Nursing Home)"
)
_PLACE_WORD = r"(?:[A-Z][\w'\u2019]*|[A-Z]{2,5})(?:-[A-Z][\w'\u2019]*)*"
_PLACES = (
    r"(?:New York(?: City)?|NYC|NY|Los Angeles|LA|San (?:Francisco|Diego|Jose|Antonio)|Chicago|Houston|Dallas|"
    r"Boston|Seattle|"
    r"Denver|Miami|Atlanta|Phoenix|Philadelphia|Detroit|Portland|Baltimore|Cleveland|Austin|Orlando|Tampa|"
    r"Nashville|Memphis|"
    r"Las Vegas|Salt Lake City|Minneapolis|St\.? Louis|Kansas City|Pittsburgh|Cincinnati|Brooklyn|Queens|"
    r"Manhattan|Bronx|"
    r"Springfield|Sacramento|Oakland|Charlotte|Indianapolis|Columbus|Milwaukee|New Orleans|London|Manchester|"
    r"Birmingham|"
    r"Edinburgh|Glasgow|Dublin|Toronto|Montreal|Vancouver|Sydney|Melbourne|Nairobi|Kampala|Lagos|Accra|Mumbai|Delhi|"
    r"California|Texas|Florida|Illinois|Ohio|Georgia|Michigan|Arizona|Massachusetts|Pennsylvania|Colorado|Nevada|"
    r"Oregon|"
    r"Virginia|Maryland|Minnesota|Wisconsin|Tennessee|Missouri|Alabama|Louisiana|Kentucky|Oklahoma|Connecticut|"
    r"Iowa|Utah|"
    r"New (?:Jersey|Mexico|Hampshire)|North Carolina|South Carolina|Washington(?: D\.?C\.?)?|Mayo|Johns? Hopkins|"
    r"John's Hopkins|UCLA|UCSF|NYU(?: Langone)?|Stanford|Harvard|Yale|Duke|Emory|Cedars?-?[ ]?Sinai|Mount Sinai|"
    r"Mass General|"
    r"Kaiser(?: Permanente)?|MGH|Brigham(?: and Women's)?|Cleveland Clinic|Langone)"
)

CONTEXT_SHAPES: tuple[Shape, ...] = (
    _shape(
        "name",
        rf"\b{_TITLE}\b\.?\s+(?:{_NAME_WORD}|[A-Z]\.)(?:\s+{_INITIAL})?(?:\s+{_NAME_WORD})?(?:\s+{_INITIAL})?",
        _is_titled,
    ),
    _shape(
        "name",
        rf"(?<![\w-]){_NAME_WORD}\s+(?:{_INITIAL}\s+)?{_NAME_WORD}(?![\w-])(?!['\u2019]s?\s+(?:disease|syndrome|"
        rf"palsy|sign|reflex))",
        _is_full_name,
    ),
    _shape("name", rf"(?<![\w-]){_NAME_WORD}\s+[A-Z]\b\.?(?!['\u2019-]\w)", _is_full_name),
    _shape(
        "name",
        rf"(?i:\b(?:patient|pt|pts?\.|client|named?|son|daughter|wife|husband|mother|father|sister|brother|for|"
        rf"spouse|,)\s*,?\s+)(?P<value>{_NAME_WORD})(?=[\s,.;:?!)]|$)",
        _is_given,
    ),
    _shape("name", rf"(?<=[,(] )(?P<value>{_NAME_WORD} [A-Z]\.)(?=[\s,;)?]|$)"),
    _shape(
        "name", rf"(?<=, ){_NAME_WORD}\s+(?:{_INITIAL}\s+)?{_NAME_WORD}(?=, (?:who|an?|seen|last|with|was|admitted|\d))"
    ),
    _shape(
        "name",
        rf"\b(?i:patient|pt|named|called)\.?,?\s+(?P<value>{_NAME_WORD}\s+{_NAME_WORD})(?=[\s,.;:?!)]|$)",
        lambda t: t.split()[-1].casefold() not in NO_SURNAME,
    ),
    _shape("date", rf"(?i)(?<![\w/.-]){_DATE}(?![\w/-]|\.\d)"),
    _shape(
        "date",
        rf"(?i)\b(?:last|this|next|early|late|mid|since|in|until|by)[\s-]+(?P<value>{_MONTH})(?![\w])(?!\s+\d)",
        lambda t: t != "may",
    ),
    _shape(
        "geographic_location",
        rf"\b(?:(?:St|Mt|Ft)\.?\s+)?{_PLACE_WORD}(?:\s+(?:of|and|the|"
        rf"&)?\s*{_PLACE_WORD}){{0,4}}?(?:\s+{_FACILITY}\b\.?)+(?:,?\s+{_PLACES})?(?:,\s[A-Z]{{2}}\b)?",
    ),
    _shape("geographic_location", rf"\b(?:St|Mt|Ft)\.?\s+{_PLACE_WORD}(?:\s+{_FACILITY}\b)*(?![\w'\u2019]|\s+[Ww]ort)"),
    _shape(
        "geographic_location",
        rf"\b{_PLACES}(?:\s+{_FACILITY}\b)*(?:,\s[A-Z]{{2}}\b)?(?!['\u2019]s (?:disease|syndrome))(?!\w)",
    ),
    _shape(
        "geographic_location",
        rf"(?i:\b(?:at|@|visited|visiting|from|to)\s+(?:the\s+|"
        rf"our\s+)?)(?P<value>{_PLACE_WORD}(?:\s+{_PLACE_WORD}){{0,4}}(?:,\s[A-Z]{{2}}\b)?)(?=\s+(?:on|in|for|"
        rf"this|last|since|with|by|,)|[,.?;(])",
    ),
)
