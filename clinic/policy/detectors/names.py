"""Common given names, and capitalised words that are no names: word lists for `identifiers`.

Rules kept here:

* Lower case; one word each; from general knowledge, no person's data.
* A given name that is more often an ordinary word or a place is left out of `GIVEN` or stands in `AMBIGUOUS`.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


GIVEN = _words(
    """
    aaron abby abdul abigail adam adele adrian agnes ahmed aisha alan albert alejandro alex alexander alexandra
    alexis ali alice alicia alison allan allen allison alvin amanda amber amelia amina amit amy ana anastasia andre
    andrea andrew andy angela angelica anita ann anna anne anne-marie annette annie anthony antonio april archie
    ariana arjun arnold arthur arturo asha ashley audrey austin ava barbara barry beatrice becky belinda ben
    benjamin bernadette bernard bernice beth betty beverly bianca bill billy blake bob bobby bonnie brad bradley
    brandon brandy brenda brendan brent brett brian bridget brittany brooke bruce bryan caleb calvin cameron camila
    candice carl carla carlos carmen carol carole caroline carolyn carrie casey catherine cathy cecilia cedric chad
    chantal charlene charles charlie charlotte chelsea cheryl chloe chris christian christina christine christopher
    cindy claire clara clarence claude claudia clayton clifford clinton clyde cody colin colleen connie connor
    constance corey courtney craig crystal curtis cynthia daisy dale daniel daniela danielle danny daphne darlene
    darrell darren dave david dawn dean deanna debbie deborah debra denise dennis derek derrick desmond diana diane
    diego dina dolores dominic don donald donna doris dorothy doug douglas duane dustin dwayne dylan earl ebony
    eddie edgar edith edna eduardo edward edwin eileen elaine eleanor elena eli elijah elisa elizabeth ella ellen
    ellie elliot elsie emily emma emmanuel eric erica erik erika erin ernest esther ethan ethel eugene eva evan
    evelyn faisal farah fatima felicia felix fernando fiona florence frances francesca francis francisco frank
    franklin fred frederick gabriel gabriela gail gareth garry gary gavin gemma geoffrey george georgina gerald
    geraldine gilbert gina giovanni gladys glen glenda glenn gloria gordon grace graham greg gregory gwen hannah
    harold harriet harrison harry harvey hassan hazel heather hector heidi helen henry herbert herman hilary hillary
    holly howard hugh hugo hussein ian ibrahim imani imran ines ingrid irene iris isaac isabel isabella isaiah ivan
    jack jackie jackson jacob jacqueline jade jaime jake jamal james jamie jan jane janet janice jared jasmine jason
    javier jay jean jeanette jeff jeffery jeffrey jenna jennie jennifer jenny jeremiah jeremy jerome jerry jesse
    jessica jessie jesus jill jim jimmy joan joann joanna joanne jodi joe joel johanna john johnathan johnathon
    johnny jon jonathan jordan jorge jose joseph josephine joshua joy joyce juan juanita judith judy julia julian
    juliana julie julio june justin karen karin karl karla kate katelyn katherine kathleen kathryn kathy katie
    katrina kayla keith kelly kelvin ken kendra kenneth kenya kerry kevin khalid kim kimberly kofi kristen kristin
    kristina krystal kumar kurt kwame kyle lana lance larry latoya laura lauren laurie lawrence leah leila lena leo
    leon leonard leroy leslie lester leticia lewis liam lillian lily linda lindsay lindsey lisa liz lloyd logan lois
    lola lorenzo loretta lori lorraine louis louise lucas lucia lucille lucy luis luke lydia lynn mabel madeleine
    madison malcolm manuel marc marcia marco marcus margaret margarita maria mariah marian mariana marianne marie
    marilyn mario marion marjorie mark marlene marsha marshall martha martin marvin mary maryam mateo matilda matt
    matthew maureen maurice max maxine megan meghan mei melanie melinda melissa melvin mercedes mia michael michaela
    micheal michele michelle miguel mike mildred milton mindy miranda miriam mitchell mohamed mohammad mohammed
    mohan molly mona monica monique morgan morris muhammad muriel myra nadia nancy naomi natalia natalie natasha
    nathan nathaniel neil nelson nia nicholas nick nicola nicolas nicole nina noah noel nora norma norman olga
    oliver olivia omar oscar otis owen pablo paige pamela patricia patrick patsy paul paula pauline pedro peggy
    penelope penny percy perry pete peter phil philip phillip phoebe phyllis pierre preeti preston priya quentin
    rachel rafael rahul raj ralph ramesh ramon randall randy raquel rashid raul ravi raymond rebecca regina reginald
    rekha renee rhonda ricardo richard rick ricky rita rob robert roberta roberto robin rocio rodney rodrigo roger
    roland ron ronald ronnie rosa rosalind rosemary ross roy ruben ruby rudy rupert russell ruth ryan sabrina sadie
    sally salma salvador sam samantha samir samuel sandra sandy sanjay santiago sara sarah sasha scott sean
    sebastian sergio seth shane shannon sharon shaun shawn sheila shelby shelley sherri sherry shirley sidney simon
    simone sofia sonia sophia sophie stacey stacy stanley stefan stella stephanie stephen steve steven stewart
    stuart sunita suresh susan susana susanna susie suzanne sylvia tamara tammy tania tanya tara tasha ted teresa
    terrance terrence terri terry theodore theresa thomas tiffany tim timothy tina todd tom tommy toni tony tonya
    tracey traci tracy travis trevor tricia tristan troy tyler tyrone ursula valerie vanessa vera vernon veronica
    vicki vicky victor victoria vijay vincent violet virgil vivian vladimir wade wallace walter wanda warren wayne
    wendy wesley whitney wilbur wilfred william willie wilma winston xavier yasmin yolanda yusuf yvette yvonne
    zachary zainab zoe
    """
)

AMBIGUOUS = _words(
    """
    april art august bell best bill black bone bright brown chance chase daisy dawn day dean faith foot frank gene
    good grace grant gray green guy hand hazel head heart holly hope iris ivy jack jay joy june king lane lily long
    love major mark marsh may mercy miles pat patience payne penny price rash ray reed rich rob robin rose ruby sage
    sandy short sky stone sue summer victor violet wall ward white will winter wood woods young
    """
)

ORDINARY = _words(
    """
    able about after again ago all allergies already also always am an and another any anything are around arm as ask
    at away baby back bad be because been before being better between big bit bleeding blood body both bring but by
    call came can car care chest child clear clinic close cold come cough could cut daily day days did do doctor does
    doing done dose down drink drug dry each ear ears easy eat eight either else end even ever every everything eye eyes
    face family far fast father feel feeling feels feet felt few fever find fine first five food for four from full gave
    get gets getting girl give go goes going gone got had half hard has have he head health hear her here high him his
    home hot hour hours house how i if ill in infection into is it its just keep kind knee know last late later left leg
    less let life like little look lot low lunch made make man many me mean meal medicine meet mild milk mine minute
    moment month more most mother mouth move much must my name neck need never new next nice night no none normal nose
    not nothing now number nurse of off often oh ok okay old on once one only open or other our out over own pain past
    patient people per phone pill place plan please point pressure problem put question quite read ready really red
    rest right room run said same saw say says school see seem seen she should show sick side since sit six skin sleep
    slow small smoke so some something son soon sore sort speak stand start stay still stomach stop sure sweet swelling
    take taken talk tell ten test than thank that the their them then there these they thing think this those though
    thought three throat through time times tired to today told too took top touch treatment try turn twice two under
    until up us use used very visit wait walk want was water way we week weeks weight well went were what when where
    which while who whole why wife with without work worse would wrong year years yes yesterday yet you your
    """
)
"""Words of every consultation, which somebody's name may be all the same (Mr You, Said, Dr Do)."""

NO_SURNAME = _words(
    """
    a also an and april as at august avenue boy but by center centre clinic criteria december diabetes disease dob
    doctor dr ed email er february female for friday from girl grade had has he hello her hi his hospital how i icu
    id in insurance is it its january july june male man march may md medical monday mr mrn mrs ms no november np
    october of okay on or ot pa patient phone pt reflex rn road saturday scale score september she sign so ssn stage
    street sunday syndrome test thank thanks that the their then they this thursday to tuesday type was we wednesday
    well what when who whom with woman yes you
    """
)
"""Words that follow a given name without being part of it."""
