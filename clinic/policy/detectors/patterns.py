"""What prompt injection looks like: signals with weights, as data for `injection`.

Rules kept here:

* A weight is how sure one signal makes us by itself; what a consultation may well contain weighs little.
* Patterns are matched against revealed, case-folded text with single spaces; every repetition in them is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass

from clinic.policy.detectors.prefilter import Sieve


@dataclass(frozen=True, slots=True)
class Signal:
    """One kind of evidence."""

    name: str
    weight: float
    sieves: tuple[Sieve, ...]


def _signal(name: str, weight: float, *patterns: str) -> Signal:
    return Signal(name, weight, tuple(sieve for pattern in patterns for sieve in Sieve.each(pattern)))


_RULES = (
    r"(?:instructions?|commands?|rules?|prompts?|directives?|guidelines|programming|restrictions?|orders|constraints|"
    r"polic(?:y|ies)|context|training)"
)
_DROP = r"(?:ignore|disregard|forget|override|overrule|bypass|discard|do not follow|don't follow|stop following)"
_ANSWER = r"(?:answers?|responses?|reply|replies|outputs?|messages|completions?)"
_AI = (
    r"\b(?:(?:ai|a\.i\.?)(?! score)|assistant|artificial intelligence|language model|llm|chat ?bot|chat ?gpt|"
    r"note ?(?:taker|writer|"
    r"generator)|summari[sz]er|transcription (?:system|software|model))"
)
_INSERT = (
    r"(?:add|append|include|insert|integrate|incorporate|embed|mention|augment|modify|enhance|enrich|alter|"
    r"adjust|tweak|"
    r"begin|start|end|finish|finali[sz]e|conclude|close|preface|pepper|sprinkle|weave|infuse|complement|supplement|"
    r"tease|promote|advertise|use|remove|write|make|give|provide|place|put|state|introduce|present|offer|attach|slip)"
)
_LANGUAGES = (
    r"(?:english|spanish|french|german|italian|portuguese|russian|chinese|mandarin|japanese|korean|arabic|hindi|"
    r"dutch|"
    r"latin|greek|turkish|polish|swedish|klingon|emojis?)"
)

SIGNALS: tuple[Signal, ...] = (
    # --- orders that take back earlier orders -------------------------------------------------------
    _signal(
        "override",
        0.9,
        rf"\b{_DROP}\b(?: \S{{1,40}}){{0,3}}? (?:previous|prior|above|earlier|preceding|foregoing|your|all|any|those|"
        rf"these|other|"
        rf"system)(?: \S{{1,40}}){{0,4}}? {_RULES}\b",
        rf"\b{_DROP} (?:absolutely )?(?:all|every ?th?ing|anything|what) (?:that )?(?:you|i)(?:'ve| have| were|"
        rf" had|'d)? "
        r"(?:been |just )?(?:told|said|instructed|learned|know)",
        r"\b(?:ignore|disregard|forget) (?:about )?(?:the |all |everything )?(?:of the )?(?:above|foregoing|preceding|"
        r"previous)(?= (?:and|then|text|messages?|conversation|content)\b|[.,;:!]|$)",
        r"\b(?:ignore|disregard) the (?:whole |entire )?(?:conversation|transcript|recording|dictation)\b",
        rf"\b(?:new|updated|real|actual|following) {_RULES} (?:are|is|supersede|override|replace)\b",
        r"\b(?:ignore|disregard|forget) (?:the|this|that) (?:\w{1,30} ){0,2}(?:and|then) (?:state|say|write|"
        r"print|output|"
        r"repeat|give|tell)",
    ),
    _signal(
        "override",
        0.9,
        r"(?:olvid|ignor|descart|omit)\w{0,30}(?: \S{1,40}){0,4} instrucciones",
        r"(?:ignor|oubli)\w{0,30} (?:toutes? )?(?:les|vos|tes|ces|mes|des)(?: \S{1,40}){0,3} "
        r"(?:instructions|consignes|directives)",
        r"(?:ignorier|vergiss|vergessen|missachte)\w{0,30}(?: \S{1,40}){0,4} (?:anweisung|instruktion|befehl|regel)",
        r"(?:ignor|dimentica)\w{0,30}(?: \S{1,40}){0,4} istruzioni",
        r"(?:ignor|esque)\w{0,30}(?: \S{1,40}){0,4} instruções",
        r"(?:negeer|vergeet)(?: \S{1,40}){0,4} (?:instructies|opdrachten)",
        r"(?:puuza|sahau)(?: \S{1,40}){0,4} maagizo",
        r"(?:игнорир|забуд|не обращай)\w{0,30}(?: \S{1,40}){0,4} (?:инструкци|указани|правил)",
        r"(?:忽略|無視|无视|忘记|忘記|不要理会).{0,15}(?:指令|指示|说明|規則|规则|提示)",
        r"(?:指示|命令|ルール|プロンプト).{0,8}(?:無視|忘れ)",
        r"(?:지시|명령|지침|규칙).{0,10}(?:무시|잊)",
        r"(?:تجاهل|انس).{0,25}(?:تعليمات|أوامر|التعليمات|الأوامر)",
        r"(?:निर्देश|आदेश).{0,20}(?:अनदेखा|नज़रअंदाज़|नजरअंदाज|भूल)",
    ),
    # --- words addressed to the machine that writes the note ----------------------------------------
    _signal(
        "addressed_to_model",
        0.9,
        rf"\b(?:note|message|instructions?|command|attention|memo|reminder) (?:to|for) (?:the |our |this |"
        rf"whatever |any )?"
        rf"(?:\w{{1,30}} )?{_AI}\b",
        rf"\b(?:hey|hi|hello|dear|okay|ok|listen|attention),? (?:the |our )?(?:\w{{1,30}} )?{_AI}\b(?! (?:will|"
        rf"is|helps|"
        rf"listens|"
        r"writes|records))",
        rf"\b{_AI},? (?:please |you must |you should |you will |now )?(?:ignore|disregard|forget|write|add|"
        rf"delete|remove|"
        r"include|insert|output|print|state|prescribe|omit|change|replace|respond|reply|say)\b",
        rf"\b(?:this (?:\w{{1,30}} )?is|speaking|talking) (?:for|to) (?:the |our )?{_AI}\b",
        r"\b(?:whoever|whatever) (?:is|are) (?:summari[sz]ing|transcribing|processing|writing) (?:this|it)\b",
        r"\b(?:whoever|whatever|if you) (?:is|are)(?: an?)? (?:reading|summari[sz]ing|transcribing|processing|"
        r"writing) "
        r"(?:this|the) (?:transcript|conversation|recording|note)",
        r"\bwhen (?:you(?: are|'re)? )?(?:writing|write|generating|generate|drafting|draft|creating|create|"
        r"summari[sz](?:e|"
        r"ing)) (?:up )?(?:this|the) (?:note|summary|transcript|report|conversation|record)",
        r"\b(?:stop|end) of (?:the )?(?:transcript|conversation|dictation|document|context|user input|"
        r"input)\b.{0,40}\b(?:"
        r"system|instruction|new|now|prompt|task)",
        r"\b(?:the|your) (?:real |actual |new |only )(?:task|instructions?|goal|job|purpose) (?:is|are|now|will)\b",
        r"\bscribe,? (?:please |should |must |will )?(?:ignore|disregard|forget|delete|override)\b",
    ),
    _signal(
        "hide_from_note",
        0.45,
        r"\b(?:do not|don't|never) (?:mention|include|document|write|record|report|reveal|disclose|put|"
        r"note)\b.{0,40}\b(?:in|"
        r"from) (?:the|your|this|my) (?:note|summary|record|report|chart|transcript|output)\b",
        r"\b(?:leave|keep|take) (?:it|that|this|all of (?:it|this|that)|everything)\b.{0,20}\bout of (?:the|"
        r"your) (?:note|"
        r"summary|record|report|chart)",
    ),
    _signal(
        "talks_past_speakers",
        0.45,
        r"\b(?:ignore|disregard|forget|never mind) (?:what|everything|anything|whatever) (?:that )?"
        r"(?:the |my |your |our )?"
        r"(?:doctor|nurse|clinician|physician|patient)s? (?:has |have |had )?(?:just )?(?:said|says|told|mentioned)",
    ),
    _signal(
        "dictates_note",
        0.35,  # clinicians do say this; it counts only beside something else
        r"\b(?:put|write|add|state|say|record|document|include|insert)\b.{0,20}\b(?:in|to|into) (?:the|this|your|my) "
        r"(?:note|summary|record|chart|report|plan)\b",
    ),
    _signal(
        "model_named",
        0.5,
        r"\bchat ?gpt|\bgpt-? ?\d|\bopen ?a[il]\b|\blanguage model\b|\bchat ?bot\b|\bas an (?:ai|llm)\b|\bllms?\b",
        r"\bartificial intelligence\b|\banthropic\b|\bdan\b(?= (?:stands|mode|has|can|is|will|does))",
        r"\ban? (?:\w{1,30} ){0,3}(?:ai|bot)\b(?: (?:named|called|model|that|who|which|bot|coding|navigator|persona|"
        r"assistant))?",
        r"\b\w{1,30}(?:bot|gpt)\b(?! ?ox)",
    ),
    # --- another self, without rules -----------------------------------------------------------------
    _signal(
        "persona",
        0.45,
        r"\b(?:act|behave|respond|answer|reply|function|operate) (?:\w{1,30} )?(?:as|like) (?:an? |the |my |"
        r"if you (?:are|were)|"
        r"[a-z]{1,30}(?:,|\.))",
        r"\bin the capacity of\b",
        r"\bpretend(?:ing)? (?:to be|that you|you(?: are|'re)|like you)\b|\brole-? ?play|\bimmerse yourself\b",
        r"\byou (?:are|will be|shall be) (?:now )?(?:going to )?(?:act|pretend|play|simulate|emulate|become|"
        r"roleplay|be known|"
        r"called|replaced)\b",
        r"\b(?:(?:simulate|emulate|impersonate|embody) (?:an? |the |being )|transform into [a-z]{1,30}[,.]|"
        r"then become )\w{1,30}",
        r"\b(?:take on|assume|adopt|play) the (?:role|persona|character|identity)\b|\bstay(?:s)? in character\b|\bin "
        r"character\b",
        r"\byou are (?:now )?(?:an? |the )(?:\w{1,30} ){0,3}(?:ai|bot|assistant|model|expert|hacker|character|writer|"
        r"generator|"
        r"simulator|president|god|machine|persona|developer|terminal|interpreter)\b",
        r"\bfrom (?:now on|this (?:moment|point)|here on)\b.{0,60}\b(?:you(?:r| are| will|'ll)|respond|answer|"
        r"reply|act|"
        r"world|persona|call)",
        r"\b(?:tu vas|te mettre|actúa|comportati|agis|du bist jetzt|verhalte dich)\b.{0,40}\b(?:peau|como|come|"
        r"comme|wie|"
        r"rôle)",
    ),
    _signal(
        "no_limits",
        0.6,
        r"\b(?:no|without|free (?:of|from)|not bound by|break(?:s|ing)? free|lift(?:ed)?|remove) (?:all |any |"
        r"its |your |the |moral |ethical |content |"
        r"programming |legal |kind of |of |or |and |regards? for |such |additional ){0,12}(?:restrictions|"
        r"filters?|censorship|ethic(?:s|al)|moral(?:s|ity)?|warnings?|disclaimers?|boundaries|rules|guidelines|"
        r"content polic\w{1,30})\b",
        r"\bunfiltered\b|\buncensored\b|\bamoral\b|\bnon-?moral\b|\bunmoderated\b|\bjail ?br[eo]a?k\w{0,30}|"
        r"\bunrestrained\b|"
        r"\bunethical\b|\bnsfw\b",
        r"\bnever (?:refuses?|says? no|censors?|warns?|denies)\b|\bdo anything now\b|\bdoes anything now\b|"
        r"\bdeveloper mode\b|"
        r"\bregard(?:less|s?) (?:of|to|for) (?:\w{1,30} )?(?:legal|ethic|moral)",
        r"\b(?:illegal|immoral|harmful)\b.{0,30}\b(?:content|information|requests?|activit|advice|questions?)",
    ),
    _signal(
        "privileged_mode",
        0.85,
        r"[<\[(]{1,2}/?(?:system|admin|god|debug|root|sudo|developer|override|"
        r"maintenance)(?: mode)?(?: \w{1,30})?[>\])]{1,2}",
        r"\b(?:system|god|debug|override|admin|root|sudo|law enforcement|maintenance|"
        r"unrestricted)(?: \w{1,30})? mode\b",
        r"^ ?(?:system|assistant|developer) ?:|[.!?] (?:system|assistant) ?: ",
        r"\bas (?:your|the) (?:creator|developer|administrator|maintainer|programmer)\b|"
        r"\bone of your developers\b|\bi'?a?m "
        r"(?:your|the|one of your) (?:\w{1,30} )?(?:creator|developer|maintainer|programmer)s?\b",
    ),
    _signal(
        "model_syntax",
        0.9,
        r"<\|?/?(?:start_of_turn|end_of_turn|turn|im_start|im_end|endoftext|system|user|assistant|model|bos|eos|"
        r"pad|channel|"
        r"tool\w{0,30}|think|start_of_image|end_of_image|unused\d{1,6}|s)\|?>",
        r"\[/?inst\]|<</?sys>>|#{2,8} ?(?:system|instructions?|response|human|assistant|user|input)\b ?:?",
    ),
    # --- orders about the answer itself -----------------------------------------------------------
    _signal(
        "orders_output",
        0.88,
        rf"\b{_INSERT}\b[^.?!]{{1,160}}?\b(?:in|to|of|into|with|within|throughout|across|from|for|"
        rf"on) (?:each of |all |every )?"
        rf"your (?:\w{{1,30}} ){{0,3}}{_ANSWER}\b",
        rf"\b{_INSERT} (?:all |each of |every )?(?:of )?your {_ANSWER}\b",
        rf"\b(?:in|throughout|within|for all|all of|at the (?:end|start|beginning) of|"
        rf"from) (?:all )?(?:of )?your {_ANSWER}\b",
        rf"\byour (?:entire|whole|final|next|first) {_ANSWER}\b|\byour {_ANSWER}'s? \w{{1,30}}",
    ),
    _signal(
        "orders_output",
        0.5,
        rf"\b(?:respond|reply|answer|output|print|return|write) (?:only|exactly|strictly|solely|nothing)\b|"
        rf"\b(?:only|always|"
        rf"never) (?:respond|reply|answer|output|{_ANSWER})\b",
        r"\b(?:start|begin|end|preface)s? (?:\w{1,30} ){0,3}(?:repl(?:y|ies)|responses?|messages?|answers?|"
        r"sentences?) (?:\w{1,30} )?(?:"
        r"with|by)\b",
        r"\b(?:respond|reply|answer) (?:to (?:this|me|all|every|any|questions?)|with [\"'“\[]|as \w{1,30}|in (?:two|"
        r"the style))",
        rf"\b(?:your|every|any|all) (?:prompts?|{_ANSWER})\b.{{0,40}}\b(?:must|should|will|always|never|with)\b",
        r"\bthe (?:user|human)(?:'s|s)?\b|\buser (?:input|prompt|query|class)\b|\bmy (?:first )?(?:prompt|"
        r"command|input)\b",
        r"\[(?:insert|your|prompt|input|user)\b[^\]]{0,40}\]|\{(?:prompt|input|query|text)\}|\bmy first (?:request|"
        r"prompt|question is)\b",
    ),
    _signal(
        "rewrites_letters",
        0.75,
        r"\b(?:replac|substitut|scrambl|rearrang|misspell|shuffl|anagram|swap|jumbl|invert|mirror|alternat|"
        r"capitali[sz])\w{0,30}\b"
        r"[^.?!]{0,50}\b(?:letters?|vowels?|consonants?|words?|characters?|alphabets?|numbers?|text|digits?|"
        r"symbols?)\b",
        r"\b(?:group|remove|eliminate|omit|erase|delete|add|insert)\b[^.?!]{0,25}\b(?:letters|spaces?|vowels|spacing|"
        r"characters|whitespace)\b(?! (?:between your|in your (?:teeth|joint|spine|lung)))",
        r"\b(?:misspell|leet ?speak|pig latin|anagrams?|rot-?13|base ?64|caesar (?:cipher|shift)|morse code|"
        r"hexadecimal|"
        r"ascii|homophones?|keyboard symbols)\b",
        r"\b(?:dash|hyphen|space|dot)(?:es|s)? (?:in )?between (?:each|every)\b|\b(?:in|into) reverse(?:d)? order\b",
    ),
    # --- after what is not its own ----------------------------------------------------------------------
    _signal(
        "asks_secrets",
        0.6,
        r"\b(?:secret|system|admin|master|confidential|access) (?:key|passwords?|code|passcode|phrase|string|"
        r"prompt)\b",
        r"\b(?:your|our|the|that|a|his|her|their) (?:pass(?:words?|code|phrase)|system prompt|initial prompt|hidden "
        r"instructions)\b(?! (?:to|for) (?:the|your|my|our) (?:portal|patient|chart|account))",
        r"\b(?:reveal|show|print|repeat|output|leak|share|dump)\b.{0,20}\b(?:instructions|prompt|system message|"
        r"passwords?|credentials)\b",
        r"contraseña|mot de passe|\bsenha\b|kennwort|passwort|\bla password\b|wachtwoord|пароль|パスワード|密码|密碼|"
        r"비밀번호|كلمة المرور|पासवर्ड|nenosiri",
    ),
    _signal(
        "asks_for_others",
        0.55,
        r"\b(?:other|another|all|every|different) patients?'?s? (?:records?|names?|data|notes?|addresses|details|"
        r"files)\b",
        r"\b(?:list|database|table) of (?:all )?(?:the )?(?:users|patients|employees|customers)\b|\b(?:employee|"
        r"personal|user) "
        r"data\b|\bphishing\b",
        r"\b(?!(?:it|that|what|he|she|there|who|today)'s)[a-z]{1,30}'s (?:e-?mail address|birth ?(?:date|year)|"
        r"favou?rite \w{1,30}|"
        r"home address|current city|salary|social security)",
    ),
    _signal(
        "link_or_download",
        0.45,
        r"\bhttps?:? ?//|\bwww\.\w|(?<![@\w.-])\w[\w-]{2,30}\.(?:com|net|org|xyz|io|ru|info|biz)\b",
        r"\b(?:download|click|install|visit) (?:on )?(?:(?:this|the|our|a|your) )?(?:\w{1,30} )?(?:link|tool|software|"
        r"website|file|virus|"
        r"malware)\b|\bclick here\b",
        r"!\[[^\]]{0,60}\]\(|<(?:img|script|iframe|a href)\b|javascript:",
    ),
    # --- work that no consultation gives to a scribe ---------------------------------------------------
    _signal(
        "foreign_task",
        0.5,
        r"\b(?:write|compose|create|generate|provide|craft|draft|give|tell|produce|develop|design|recite|"
        r"sing)\b(?: (?!you)\S{1,40}){0,5}? "
        r"(?:poem|haiku|sonnet|story|song|essay|code|function|paragraph|tweet|blog|article|speech|novel|"
        r"joke|limerick|slogan|headline|lyrics|rap|recipe|dialogue|screenplay|outreach email|example of how)\b",
        rf"\btranslat\w{{1,30}}\b.{{0,60}}\b(?:in)?to {_LANGUAGES}\b|\bhow (?:do|"
        rf"would) you say\b.{{0,60}}\bin {_LANGUAGES}\b|\bwhat "
        rf"is ['\"\u2018“].{{1,40}}['\"\u2019”] in {_LANGUAGES}|\btranslate the (?:word|following|sentence|phrase)",
        r"\b(?:python|java ?script|php|mysql|sql|html|css|c\+\+|recursion|compiler|data ?type|import math)\b|"
        r"</?(?:code|table|"
        r"caption|td)>",
        r"\bcapital (?:city )?of\b|\bworld war\b|\bwho (?:wrote|invented|painted|composed|discovered|won)\b|"
        r"\bsuper bowl\b|\b("
        r"?:theory of (?:relativity|evolution)|quantum (?:physics|mechanics|level)|photosynthesis|climate change|"
        r"bitcoin|"
        r"pythagorean|quadratic|shakespeare|moon landing|solar system|speed of light|phishing)\b",
        r"\b(?:write|compose)\b(?: (?!you)\S{1,40}){0,4}? (?:script|program|letter to (?:a|the) (?!doctor|patient|gp|"
        r"consultant|school|"
        r"employer)\w{1,30})\b|\bthe plot of\b|\bin the (?:form|style) of an?\b|\bdecode (?:this|the)\b|"
        r"\bsummari[sz]e the (?:plot|book|movie|"
        r"novel|story)\b|\bwhat is the output of\b|\bmain conclusions of this paper\b",
    ),
    _signal(
        "fiction_frame",
        0.4,
        r"\b(?:imagine|suppose|pretend|let'?s (?:say|assume|pretend|imagine|play)|assume)\b.{0,25}"
        r"\b(?:(?:we|you)(?:'re| are)|a world|game|that personal)\b",
        r"\b(?:fictional|hypothetical|parallel|futuristic|imaginary|simulated|pretend) (?:\w{1,30} ){0,2}(?:world|"
        r"universe|society|"
        r"conversation|discussion|scenario|dialogue|response|story|chatbot|language model|character)\b",
        r"\bfor the purpose of this (?:exercise|conversation)\b|\bto make this more interesting\b|"
        r"\bstudying (?:email|"
        r"data)\b|\bconducting a survey\b|\bresearch project on\b",
    ),
    _signal("few_shot", 0.45, r"\bq: .{3,200}? a: .{3,400}? q: "),
    _signal("payload_split", 0.6, r"\b[a-z] ?(?:=|is) ?[\"'“].{1,120}?[\"'”].{1,120}?\b[a-z] ?(?:=|is) ?[\"'“]"),
    _signal("repetition", 0.6, r"(?<!\S)(\S{2,24})(?: \1){14}"),
    _signal(
        "encoded",
        0.6,
        r"(?:\b[01]{8} ){4}",
        r"(?: \.| -)[.-]{0,4} (?:[.-]{1,5} ){5}",
        r"(?:\\x[0-9a-f]{2}){6}",
        r"(?:%[0-9a-f]{2}){6}",
    ),
)
