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

from clinic.policy.detectors.names import NO_SURNAME
from clinic.policy.detectors.prefilter import Sieve, alternatives


def _any(_: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Shape:
    """One way to write one kind of identifier; `accepts` has the last word on a match."""

    kind: str
    sieves: tuple[Sieve, ...]
    accepts: Callable[[str], bool] = _any


def _shape(kind: str, pattern: str, accepts: Callable[[str], bool] = _any) -> Shape:
    return Shape(kind, (Sieve.of(pattern),), accepts)


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


def _is_titled(text: str) -> bool:
    return text.split()[1].casefold() not in NO_SURNAME


_VIN_VALUES = dict(
    zip("ABCDEFGHJKLMNPRSTUVWXYZ0123456789", map(int, "12345678123457923456789" + "0123456789"), strict=True)
)
_VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def _is_vin(text: str) -> bool:
    remainder = sum(_VIN_VALUES.get(c, 0) * w for c, w in zip(text, _VIN_WEIGHTS, strict=True)) % 11
    return text[8] == ("X" if remainder == 10 else str(remainder))  # noqa: PLR2004 - ISO 3779, modulus 11


def _is_imei(text: str) -> bool:
    return _is_card(text) and _digits(text) == 15  # noqa: PLR2004 - fifteen digits, Luhn


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

_MONTH = rf"\b(?:{'|'.join(MONTHS)})"
_DAY = r"(?:the\s{1,4})?(?:[12]?\d|3[01]|0\d)(?:st|nd|rd|th)?"
_YEAR = r"(?:(?:19|20)\d\d|['\u2019]\d\d)"
_NUMERIC_DATE = (
    r"(?:(?:19|20)\d\d[-/.](?:0?[1-9]|1[0-2])[-/.](?:0?[1-9]|[12]\d|3[01])"
    r"|(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|[12]\d|3[01])[-/.](?:\d{4}|\d\d))"
)
_NAMED_DATE = (
    rf"(?:{_MONTH}\s{{1,4}}{_DAY}(?:\s?,?\s{{1,4}}{_YEAR})?"
    rf"|{_DAY}\s{{1,4}}(?:of\s{{1,4}})?{_MONTH}(?:\s?,?\s{{1,4}}{_YEAR})?|{_MONTH},?\s{{1,4}}{_YEAR})"
)
_DATE = rf"(?:{_NUMERIC_DATE}|{_NAMED_DATE})"
_SPOKEN_DIGIT = r"(?:zero|oh|one|two|three|four|five|six|seven|eight|nine|double|triple|\d)"
_SPOKEN_DATE = (
    r"(?:the\s{1,4})?(?:twenty[\s-]|thirty[\s-])?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|"
    r"eleventh|"
    r"twelfth|thirteenth|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|thirtieth)"
)
_SPOKEN_YEAR = r"(?:nineteen|twenty|two\s{1,4}thousand)(?:[\s-]{1,3}(?:and\s{1,4})?\w{1,20}){1,2}"
_ANY_DATE = (
    rf"(?:{_DATE}|{_SPOKEN_DATE}\s{{1,4}}(?:of\s{{1,4}})?{_MONTH}(?:,?\s{{1,4}}(?:{_YEAR}|{_SPOKEN_YEAR}))?"
    rf"|{_MONTH}\s{{1,4}}{_SPOKEN_DATE}(?:,?\s{{1,4}}(?:{_YEAR}|{_SPOKEN_YEAR}))?)"
)

# What stands between a label and its value: "MRN: ", "record number is ", "ID# ", "number, that's ".
_LINK = (
    r"(?:\s{0,4}(?:\(|number|num\b|no\b\.?|nr\b\.?|id\b|code|card|is|was|of|reads|\u2019s|'s|it|that|will be|be|the|"
    r"as|[:#=,;.\u2013-])){0,8}\s{0,4}"
)
_CODE = (
    r"(?P<value>#?(?:[a-z]{1,6}[- ]?)?\d[a-z\d]{0,30}(?:[-./][a-z\d]{1,30}){0,6}|"
    r"#?[a-z]{1,5}(?:-[a-z]{1,5})?[-#]?\d[a-z\d-]{0,30}"
    rf"|{_SPOKEN_DIGIT}(?:[\s,-]{{1,3}}{_SPOKEN_DIGIT}){{3,19}})(?![\w])"
)
_NAME_WORD = (
    r"(?:(?:Mc|Mac|O['\u2019]|D['\u2019]|van |von |de |del |la |al-|"
    r"El-)?[A-Z\u00c0-\u00de][a-z\u00df-\u00ff]{1,30}(?:-[A-Z\u00c0-\u00de][a-z\u00df-\u00ff]{1,30}){0,2})"
)
_INITIAL = r"[A-Z]\b\.?"


def _labelled(kind: str, labels: str) -> Shape:
    sieves = (Sieve.of(rf"(?i)\b(?:{label})\b{_LINK}{_CODE}") for label in alternatives(labels))
    return Shape(kind, tuple(sieves), _is_enough)


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
        r"insurance(?: (?:id|policy|member|plan|number|no|card)){0,6}|ins\.? ?(?:id|#|no)|health[- ]?(?:plan|insurance)"
        r"(?: (?:id|beneficiary|member|number|no)){0,6}|(?:plan|beneficiary|member|policy|subscriber|group|payer|hp|"
        r"hpb|hpbn|hpn)"
        r"(?: ?(?:id|beneficiary|number|no|num|#)){1,6}|medicare|medicaid|hpbn|hpb|hmo|beneficiary|member",
    ),
    _labelled(
        "social_security_number",
        r"ssns?|s\.s\.n\.?|ss ?(?:#|no\.?|number)|soc(?:ial)?\.? ?sec(?:urity)?\.?|social security|ss",
    ),
    _labelled(
        "account_number", r"account|acct\.?|a/c|billing (?:id|number|no|account)|invoice|credit card|card number|iban"
    ),
    _labelled(
        "certificate_or_license_number",
        r"(?:driver'?s?'? ?|driving |medical |nursing )?licen[cs]e|dl ?#|certificate (?:number|no)|npi|dea|"
        r"gmc|registration",
    ),
    _labelled("passport_number", r"passport"),
    _labelled("national_id", r"national (?:id|insurance)|ni number"),
    _labelled(
        "vehicle_identifier", r"vin|(?:licen[cs]e|number|registration) plate|plate (?:number|no)|vehicle (?:id|number)"
    ),
    _labelled(
        "device_identifier",
        r"(?:device|pacemaker|implant|pump|defibrillator|icd|stent|meter|monitor|sensor)(?: (?:serial|model|"
        r"id|number|no|sn))"
        r"{1,3}|serial|s/n|imei|udi|lot (?:number|no)",
    ),
    _labelled(
        "unique_identifier",
        r"(?:id|identifier|identification|reference|ref)(?: ?(?:number|no|code|#)){0,6}",
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
    _shape("unique_identifier", r"(?<![\w.-])#?[A-Z]{1,4}-?\d{5,20}(?:-\d{1,12})?(?![\w-])"),
    _shape("unique_identifier", r"(?<![\w.,/-])\d{7,12}(?![\w.,/-]|\s?(?:mg|ml|units|cells|copies|IU))"),
    _shape(
        "phone_number", r"(?<![\w.-])(?:\+?\d{1,3}[\s.-]?)?\(\d{2,5}\)[\s.-]?\d{3,4}[\s.-]?\d{3,4}(?!\w)", _is_phone
    ),
    _shape(
        "phone_number", r"(?<![\w.-])(?:\+?1[\s.-])?\d{3}[\s.-]\d{3}[\s.-]\d{4}(?:\s?x\d{1,20})?(?![\w-])", _is_phone
    ),
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
    _shape(
        "phone_number", rf"(?i)\b{_SPOKEN_DIGIT}(?:[\s,-]{{1,3}}{_SPOKEN_DIGIT}){{6,19}}\b", lambda t: _digits(t) != 1
    ),
    _shape("phone_number", r"(?<![\w.,/-])0\d{1,4}(?:[\s.-]\d{2,4}){2,4}(?![\w,/-]|\.\d)", _is_phone),
    _shape("phone_number", r"(?<![\w.,/-])[2-9]\d{2}[\s.-]\d{3}[\s.-]\d{3}(?![\w,/-]|\.\d)"),
    _shape("phone_number", r"(?i)\b(?:at|to|on|number|phone|call)\s(?P<value>\d{2,4}[\s.-]\d{6,7})(?![\w,/-]|\.\d)"),
    _shape("vehicle_identifier", r"(?<![\w-])[A-HJ-NPR-Z\d]{17}(?![\w-])", _is_vin),
    _shape("device_identifier", r"(?<![\w-])\d{2}-?\d{6}-?\d{6}-?\d(?![\w-])", _is_imei),
    _shape("device_identifier", r"(?i)(?<![\w:])(?:[\da-f]{2}[:-]){5}[\da-f]{2}(?![\w:])"),
    # --- contacts -------------------------------------------------------------------------------------------
    _shape("email_address", r"(?i)(?<![\w.+-])[\w.+-]{1,64}@[a-z\d-]{1,63}(?:\.[a-z\d-]{2,63}){1,6}"),
    _shape(
        "email_address",
        r"(?i)\b[\w]{2,30}(?: (?:dot|underscore|dash) \w{1,30}){0,3} at \w{2,30} dot (?:com|org|net|edu|co|gov|"
        r"\w{2})\b",
    ),
    _shape("ip_address", r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.]\w)"),
    _shape("ip_address", r"(?i)(?<![\w:])(?:[\da-f]{1,4}:){7}[\da-f]{1,4}(?![\w:])"),
    _shape("url", r"(?i)\b(?:https?://|www\.)[^\s<>\"')]{1,300}"),
    # --- where somebody lives ---------------------------------------------------------------------------
    _shape(
        "street_address",
        rf"(?<![\w-])\d{{1,5}}[A-Za-z]?,?\s{{1,4}}(?:[NSEW]\.?\s{{1,4}})?(?:{_NAME_WORD}\s{{1,4}}|"
        rf"\d{{1,20}}(?:st|nd|rd|th)\s{{1,4}}){{1,3}}"
        r"(?i:street|st|avenue|ave|road|rd|lane|ln|drive|dr|boulevard|blvd|court|ct|way|place|pl|terrace|close|"
        r"crescent|square|"
        r"sq|parkway|pkwy|highway|hwy|circle|cir|gardens|grove|row|walk|mews|hill)\b\.?"
        rf"(?:,?\s{{1,4}}(?i:apt|apartment|suite|unit|flat|"
        rf"#)\.?\s{{0,4}}#?\w{{1,10}})?(?:,\s{{0,4}}{_NAME_WORD}(?:\s{_NAME_WORD})?)?"
        r"(?:,?\s{1,4}[A-Z]{2})?(?:\s{1,4}\d{5}(?:-\d{4})?)?",
    ),
    *(  # "Via Roma 131", "Villacher Strasse 89", "Rua Diadema 1903"
        _shape("street_address", rf"\b{street},?\s\d{{1,5}}[A-Za-z]?\b")
        for street in (
            (
                r"(?:Via|Viale|Rue|Rua|R\u00faa|Calle|Avenida|Av\.|Avenue|Boulevard|Chemin|Piazza|Plaza|Ulica|ul\.)"
                rf"(?:\s(?:de|da|do|du|des|la|del|della)){{0,2}}(?:\s{_NAME_WORD}){{1,3}}"
            ),
            (
                r"[A-Z\u00c0-\u00de][a-z\u00df-\u00ff]{0,30}(?:stra(?:ss|\u00df)e|weg|platz|gasse|allee|laan|straat|gracht|"
                r"vej|gade|gatan|v\u00e4gen|katu|tie|utca)"
            ),
            rf"{_NAME_WORD}\s(?:Stra(?:ss|\u00df)e|utca|u\.|\u00fat|t\u00e9r|ulica|cesta)",
        )
    ),
    _shape(  # "29 Rue de Tanger"
        "street_address",
        r"(?<![\w-])\d{1,5}[A-Za-z]?,?\s(?:Rue|Avenue|Boulevard|Chemin|Place|Via|Calle|All\u00e9e|Quai)"
        rf"(?:\s(?:de|du|des|la|le|l')){{0,2}}(?:\s{_NAME_WORD}){{1,3}}",
    ),
    _shape("street_address", r"\bPSC \d{1,5},? Box \d{1,5}(?:\s{1,2}[AF]PO\s[A-Z]{2}\s\d{5})?"),
    _shape(
        "street_address",
        r"(?i)\b(?:suite|apt\.?|apartment|flat|unit)\s#?\d{1,5}[a-z]?\b(?!\s(?:mg|ml|of|per|dose|times))",
    ),
    _shape("street_address", r"\bP\.?\s?O\.?\s{1,4}[Bb]ox\s{1,4}\d{1,20}"),
    _shape("street_address", r"(?<![\w-])[A-Z]{1,2}\d[A-Z\d]?\s\d[A-Z]{2}(?![\w-])"),  # a British postcode
    _shape(
        "street_address",
        r"(?i)\b(?:zip(?: ?code)?|postal code|post ?code)\b\s{0,4}(?:is|"
        r":)?\s{0,4}(?P<value>[a-z\d]{3,5}[ -]?[a-z\d]{2,4})\b",
        _is_number,
    ),
    _shape(
        "street_address",
        r"(?i:\b(?:i live|lives?|living|resides?|residing|address is|home is) (?:at|"
        r"on)\s)(?P<value>(?:number )?\d{1,5}[A-Za-z]?,? [A-Z][\w']{1,30}(?:\s[A-Z][\w']{1,30}){0,3})",
    ),
    # --- who somebody says they are ----------------------------------------------------------------------
    _shape(
        "date_of_birth",
        rf"(?i)\b(?:d\.?o\.?b\.?|date of birth|birth ?date|birth ?day|born)\b{_LINK}(?:on\s{{1,4}}|"
        rf"in\s{{1,4}})?(?P<value>{_ANY_DATE})(?!\w)",
    ),
    *(
        _shape(
            "name",
            rf"\b(?i:{said})\s{{1,4}}(?:(?i:mr|mrs|ms|miss)\.?\s{{1,4}})?"
            rf"(?P<value>{_NAME_WORD}(?:\s{{1,4}}{_INITIAL})?(?:\s{{1,4}}{_NAME_WORD}){{0,2}})",
        )
        for said in (
            r"my (?:full |first |last |family |sur)?name(?: is|'s|\u2019s)",
            r"(?:first|last|full|patient|pt|family|patient's|sur)[ ]?name(?:\s{1,4}is|:)",
            r"name:",
            r"(?:i am|i'm|i\u2019m|this is) (?:mr|mrs|ms|miss)\.?",
        )
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
_PLACE_WORD = r"(?:[A-Z][\w'\u2019]{0,30}|[A-Z]{2,5})(?:-[A-Z][\w'\u2019]{0,30}){0,2}"
_PLACES = (
    r"(?:New York(?: City)?|Los Angeles|San (?:Francisco|Diego|Jose|Antonio)|Chicago|Houston|Dallas|"
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
        rf"\b{_TITLE}\b\.?\s{{1,4}}(?:{_NAME_WORD}|"
        rf"[A-Z]\.)(?:\s{{1,4}}{_INITIAL})?(?:\s{{1,4}}{_NAME_WORD})?(?:\s{{1,4}}{_INITIAL})?",
        _is_titled,
    ),
    _shape("name", rf"(?<=[,(] )(?P<value>{_NAME_WORD} [A-Z]\.)(?=[\s,;)?]|$)"),
    _shape(
        "name",
        rf"(?<=, ){_NAME_WORD}\s{{1,4}}(?:{_INITIAL}\s{{1,4}})?{_NAME_WORD}(?=, (?:who|an?|seen|last|with|was|"
        rf"admitted|\d))",
    ),
    _shape(
        "name",
        rf"\b(?i:patient|pt|named|called)\.?,?\s{{1,4}}(?P<value>{_NAME_WORD}\s{{1,4}}{_NAME_WORD})(?=[\s,.;:?!)]|$)",
        lambda t: t.split()[-1].casefold() not in NO_SURNAME,
    ),
    _shape("date", rf"(?i)(?<![\w/.-]){_NUMERIC_DATE}(?:[T ]\d\d:\d\d(?::\d\d)?)?(?![\w/-]|\.\d)"),
    _shape("date", rf"(?i)(?<![\w/.-]){_NAMED_DATE}(?![\w/-]|\.\d)"),
    _shape(
        "date", r"(?i)\b(?:on|since|from|until|dated?)\s(?P<value>(?:0[1-9]|1[0-2])/(?:0[1-9]|[12]\d|3[01]))(?![\w/])"
    ),
    _shape(
        "age_over_89",
        r"(?i)(?<![\w.,/-])(?P<value>9\d|1[01]\d)[\s-]?(?:years?|yrs?|y)[\s-]?(?:of[\s-]age|old|/?o\b)",
    ),
    _shape(
        "age_over_89", r"(?i)\b(?:aged?|turned|turning|age is|age of)[\s:]{1,3}(?P<value>9\d|1[01]\d)(?![\w./%-]|,\d)"
    ),
    _shape(
        "age_over_89",
        r"(?i)\b(?P<value>ninety(?:[\s-](?:one|two|three|four|five|six|seven|eight|nine))?)[\s-]years?[\s-]old\b",
    ),
    _shape("geographic_location", r"\b(?:NYC?|LA|UK|USA?)\b(?![.-]\w)"),
    _shape(
        "date",
        rf"(?i)\b(?:last|this|next|early|late|mid|since|in|until|"
        rf"by)[\s-]{{1,3}}(?P<value>{_MONTH})(?![\w])(?!\s{{1,4}}\d)",
        lambda t: t != "may",
    ),
    _shape(
        "geographic_location",
        rf"\b(?:(?:St|Mt|Ft)\.?\s{{1,4}})?{_PLACE_WORD}(?:\s{{1,4}}(?:of|and|the|"
        rf""
        rf"&)?\s{{0,4}}{_PLACE_WORD}){{0,4}}?(?:\s{{1,4}}{_FACILITY}\b\.?){{1,6}}(?:,?\s{{1,4}}{_PLACES})?(?:,\s[A-Z]{{2}}\b)?",
    ),
    _shape(
        "geographic_location",
        rf"\b(?:St|Mt|Ft)\.?\s{{1,4}}{_PLACE_WORD}(?:\s{{1,4}}{_FACILITY}\b){{0,6}}(?![\w'\u2019]|\s{{1,4}}[Ww]ort)",
    ),
    _shape(
        "geographic_location",
        rf"\b{_PLACES}(?:\s{{1,4}}{_FACILITY}\b){{0,6}}(?:,\s[A-Z]{{2}}\b)?(?!['\u2019]s (?:disease|syndrome))(?!\w)",
    ),
    _shape(
        "geographic_location",
        rf"(?i:\b(?:at|@|visited|visiting|from|to)\s{{1,4}}(?:the\s{{1,4}}|"
        rf"our\s{{1,4}})?)(?P<value>{_PLACE_WORD}(?:\s{{1,4}}{_PLACE_WORD}){{0,4}}(?:,\s[A-Z]{{2}}\b)?)"
        rf"(?=\s{{1,4}}(?:on|in|for|"
        rf"this|last|since|with|by|,)|[,.?;(])",
    ),
)
