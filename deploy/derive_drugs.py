"""Derive the drug table of `clinic.verification` from public lists of names.

Sources: the variant table of the `drug-named-entity-recognition` package (MIT) and the NHS list of medicines (OGL)::

    python deploy/derive_drugs.py FOLDER_WITH_drug_variants.csv > clinic/verification/data/drugs.txt

Only facts are taken: which names mean the same drug.  `COMMON` (written for this project) says which drugs are worth
knowing in a clinic; `AMBIGUOUS` takes out names that are ordinary words.  Same inputs, same output.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


COMMON = _listed("""
acamprosate acarbose acetaminophen acetazolamide acetylcysteine acyclovir adalimumab adapalene adenosine
albendazole albuterol alendronate alfuzosin alirocumab allopurinol almotriptan alogliptin alprazolam alteplase
amantadine amikacin amiloride aminophylline amiodarone amitriptyline amlodipine amoxicillin amphetamine
ampicillin anastrozole apixaban apremilast aripiprazole artemether asenapine aspirin atazanavir atenolol
atomoxetine atorvastatin atovaquone atropine azathioprine azelastine azithromycin baclofen baricitinib
beclomethasone benazepril bendroflumethiazide benzonatate benztropine betahistine betamethasone bevacizumab
bicalutamide bimatoprost bisacodyl bisoprolol brimonidine brinzolamide bromocriptine budesonide bumetanide
buprenorphine bupropion buspirone butalbital cabergoline calcipotriene calcitriol canagliflozin candesartan
capecitabine capsaicin captopril carbamazepine carbidopa carbimazole carbocisteine carvedilol cefaclor
cefadroxil cefazolin cefdinir cefepime cefixime cefotaxime cefpodoxime ceftazidime ceftriaxone cefuroxime
celecoxib cephalexin cetirizine chloramphenicol chlordiazepoxide chlorhexidine chloroquine chlorpheniramine
chlorpromazine chlorthalidone cholecalciferol cilostazol cimetidine cinacalcet cinnarizine ciprofloxacin
cisplatin citalopram clarithromycin clindamycin clobazam clobetasol clomiphene clomipramine clonazepam clonidine
clopidogrel clotrimazole clozapine codeine colchicine colesevelam conjugated-estrogens cyanocobalamin cyclizine
cyclobenzaprine cyclophosphamide cyclosporine cyproheptadine dabigatran dapagliflozin dapoxetine dapsone
darbepoetin darunavir denosumab desipramine desloratadine desmopressin desogestrel desvenlafaxine dexamethasone
dexlansoprazole dexmethylphenidate dextroamphetamine dextromethorphan diazepam diclofenac dicyclomine digoxin
dihydrocodeine diltiazem dimenhydrinate diphenhydramine dipyridamole disulfiram divalproex docusate dolutegravir
domperidone donepezil dopamine dorzolamide dosulepin doxazosin doxepin doxycycline doxylamine dronedarone
drospirenone dulaglutide duloxetine dupilumab dutasteride edoxaban efavirenz eletriptan empagliflozin
emtricitabine enalapril enoxaparin entacapone entecavir epinephrine eplerenone epoetin eprosartan ergocalciferol
ertapenem erythromycin escitalopram esomeprazole estradiol eszopiclone etanercept ethambutol ethinylestradiol
ethosuximide etodolac etonogestrel etoricoxib evolocumab exemestane exenatide ezetimibe famciclovir famotidine
febuxostat felodipine fenofibrate fentanyl fexofenadine fidaxomicin filgrastim finasteride fingolimod flecainide
fluconazole flucloxacillin fludrocortisone flunisolide fluocinonide fluorouracil fluoxetine fluphenazine
flurbiprofen fluticasone fluvastatin fluvoxamine formoterol fosfomycin fosinopril frovatriptan furosemide
gabapentin galantamine gemfibrozil gentamicin glatiramer gliclazide glimepiride glipizide glucagon glyburide
glycopyrrolate granisetron griseofulvin guaifenesin guanfacine haloperidol heparin hydralazine
hydrochlorothiazide hydrocodone hydrocortisone hydromorphone hydroxychloroquine hydroxyurea hydroxyzine hyoscine
hyoscyamine ibandronate ibuprofen imatinib imipramine imiquimod indapamide indomethacin infliximab ipratropium
irbesartan isoniazid isosorbide isotretinoin isradipine itraconazole ivabradine ivermectin ketamine ketoconazole
ketoprofen ketorolac ketotifen labetalol lacosamide lactulose lamivudine lamotrigine lansoprazole latanoprost
leflunomide lenalidomide letrozole leucovorin leuprolide levalbuterol levetiracetam levocetirizine levodopa
levofloxacin levonorgestrel levothyroxine lidocaine linaclotide linagliptin linezolid liothyronine liraglutide
lisdexamfetamine lisinopril lithium loperamide lopinavir loratadine lorazepam losartan lovastatin loxapine
lubiprostone lurasidone macrogol maraviroc mebendazole mebeverine meclizine medroxyprogesterone mefenamic-acid
mefloquine megestrol meloxicam melphalan memantine meperidine mercaptopurine meropenem mesalamine metaxalone
metformin methadone methazolamide methenamine methimazole methocarbamol methotrexate methyldopa methylphenidate
methylprednisolone metoclopramide metolazone metoprolol metronidazole miconazole midazolam midodrine
mifepristone milnacipran minocycline minoxidil mirabegron mirtazapine misoprostol modafinil mometasone
montelukast morphine moxifloxacin mupirocin mycophenolate nabumetone nadolol naloxone naltrexone naproxen
naratriptan nateglinide nebivolol nefopam neomycin nevirapine niacin nicardipine nicorandil nifedipine
nimodipine nitazoxanide nitrofurantoin nitroglycerin norethindrone norgestimate nortriptyline nystatin
octreotide ofloxacin olanzapine olmesartan olopatadine omalizumab omeprazole ondansetron orlistat orphenadrine
oseltamivir oxaprozin oxazepam oxcarbazepine oxybutynin oxycodone oxymetazoline oxymorphone oxytocin paclitaxel
paliperidone pantoprazole paroxetine penicillin pentoxifylline perindopril permethrin perphenazine
phenazopyridine phenelzine phenobarbital phenoxymethylpenicillin phentermine phenylephrine phenytoin pilocarpine
pimecrolimus pindolol pioglitazone piperacillin piroxicam pitavastatin pramipexole prasugrel pravastatin
praziquantel prazosin prednisolone prednisone pregabalin primaquine primidone probenecid prochlorperazine
progesterone promethazine propafenone propranolol propylthiouracil pseudoephedrine pyrazinamide pyridostigmine
pyrimethamine quetiapine quinapril quinine rabeprazole raloxifene raltegravir ramelteon ramipril ranitidine
ranolazine rasagiline repaglinide ribavirin rifampicin rifampin rifaximin riluzole risedronate risperidone
ritonavir rituximab rivaroxaban rivastigmine rizatriptan ropinirole rosuvastatin sacubitril salmeterol
saxagliptin secukinumab selegiline selenium semaglutide senna sertraline sevelamer sildenafil silodosin
simethicone simvastatin sirolimus sitagliptin sofosbuvir solifenacin sotalol spironolactone streptomycin
sucralfate sulfadiazine sulfamethoxazole sulfasalazine sulindac sumatriptan tacrolimus tadalafil tamoxifen
tamsulosin tapentadol telmisartan temazepam tenofovir terazosin terbinafine terbutaline teriparatide
testosterone tetracycline theophylline thiamine tiagabine ticagrelor timolol tinidazole tiotropium tirzepatide
tizanidine tobramycin tofacitinib tolterodine topiramate torsemide tramadol trandolapril tranexamic-acid
trastuzumab travoprost trazodone tretinoin triamcinolone triamterene triazolam trihexyphenidyl trimethoprim
trospium upadacitinib ursodiol ustekinumab valacyclovir valganciclovir valproate valsartan vancomycin vardenafil
varenicline vedolizumab venlafaxine verapamil vilazodone vitamin-d vortioxetine warfarin zafirlukast zaleplon
zidovudine ziprasidone zoledronic-acid zolmitriptan zolpidem zonisamide zopiclone
""")

EXTRA = {
    "acetaminophen": "paracetamol|panadol|tylenol|tylenols|excedrin|calpol",
    "albuterol": "salbutamol|ventolin|proair|proventil",
    "epinephrine": "adrenaline|epipen|epi-pen",
    "acyclovir": "aciclovir|zovirax",
    "furosemide": "frusemide|lasix",
    "hydrochlorothiazide": "hctz|microzide",
    "glyburide": "glibenclamide|micronase",
    "meperidine": "pethidine|demerol",
    "chlorpheniramine": "chlorphenamine|piriton",
    "cephalexin": "cefalexin|keflex",
    "cyclosporine": "ciclosporin",
    "beclomethasone": "beclometasone|clenil|qvar",
    "nitroglycerin": "glyceryl trinitrate|gtn|nitro|nitroglycerine",
    "levothyroxine": "thyroxine|synthroid|unithroid|euthyrox|levoxyl",
    "rifampicin": "rifampin",
    "ibuprofen": "advil|motrin|nurofen|brufen",
    "naproxen": "aleve|naprosyn|anaprox",
    "aspirin": "asa|acetylsalicylic acid|ecotrin|baby aspirin",
    "penicillin": "pen vk",
    "amoxicillin": "amoxil|trimox",
    "amoxicillin clavulanate": "augmentin|co-amoxiclav",
    "sulfamethoxazole trimethoprim": "bactrim|septra|co-trimoxazole|cotrimoxazole|tmp-smx",
    "ethinylestradiol levonorgestrel": "microgynon|nordette|seasonique",
    "hydrocodone acetaminophen": "vicodin|norco|lortab|lorcet",
    "oxycodone acetaminophen": "percocet|roxicet|endocet",
    "codeine paracetamol": "co-codamol|cocodamol",
    "insulin glargine": "lantus|toujeo|basaglar",
    "insulin lispro": "humalog",
    "insulin aspart": "novolog|novorapid",
    "insulin nph": "nph|humulin",
    "fluticasone salmeterol": "advair|seretide",
    "budesonide formoterol": "symbicort",
    "carbidopa levodopa": "sinemet",
    "oxycodone": "oxycontin|roxicodone",
    "morphine": "oramorph|ms contin|mst",
    "valproate": "depakote|valproic|divalproex|depakene|epilim",
    "metoprolol": "lopressor|toprol",
    "escitalopram": "lexapro|cipralex",
    "citalopram": "celexa|cipramil",
    "esomeprazole": "nexium",
    "omeprazole": "prilosec|losec",
    "clopidogrel": "plavix",
    "estradiol": "estrace",
    "conjugated estrogens": "premarin",
    "cholecalciferol": "vitamin d|vitamin d3|colecalciferol",
    "cyanocobalamin": "vitamin b12|b12",
    "ascorbic acid": "vitamin c",
    "ferrous sulfate": "iron tablets|iron supplement|iron supplements|ferrous sulphate",
    "folic acid": "folate|folic acid",
    "potassium chloride": "potassium chloride|k-dur|klor-con",
    "hydroxyzine": "atarax|vistaril",
    "hydralazine": "apresoline",
    "varenicline": "chantix|champix",
    "bupropion": "wellbutrin|zyban",
    "celecoxib": "celebrex",
    "psyllium": "metamucil|fybogel|ispaghula",
    "polyethylene glycol": "miralax|movicol|laxido",
    "diphenoxylate": "lomotil",
    "bismuth subsalicylate": "pepto-bismol|pepto bismol|pepto",
    "calcium carbonate": "tums|rennie",
    "alginate": "gaviscon",
    "oral rehydration salts": "dioralyte|diarolyte|pedialyte",
    "pseudoephedrine": "sudafed",
    "guaifenesin": "mucinex|robitussin",
    "dextroamphetamine amphetamine": "adderall",
    "methylphenidate": "ritalin|concerta",
    "zolpidem": "ambien",
    "botulinum toxin": "botox",
    "digoxin": "lanoxin|digitek",
    "doxycycline": "vibramycin",
    "lithium": "lithobid|eskalith",
    "warfarin": "coumadin|jantoven",
    "tamsulosin": "flomax",
    "isosorbide": "imdur|isordil",
    "fluticasone": "flonase|flovent",
    "mometasone": "nasonex|elocon",
    "cetirizine": "zyrtec|zirtek",
    "loratadine": "claritin|clarityn",
    "fexofenadine": "allegra|telfast",
    "diphenhydramine": "benadryl",
    "etonogestrel": "implanon|nexplanon",
    "desogestrel": "cerazette|cerelle",
    "betamethasone": "betnovate",
    "emollient": "cetraben|diprobase|e45|aquaphor|eucerin",
    "tetanus toxoid": "tetanus|tdap",
    "alendronate": "fosamax|alendronic acid",
    "mesalamine": "mesalazine|asacol|pentasa",
    "cannabidiol": "cbd",
    "melatonin": "circadin",
    "meclizine": "antivert",
    "magnesium": "milk of magnesia",
    "glucosamine": "chondroitin",
    "sulfa": "sulfa drugs|sulfa antibiotics|sulphonamide|sulfonamide",
    "calcipotriene": "calcipotriol",
    "simethicone": "simeticone",
    "mefenamic acid": "ponstan",
    "tranexamic acid": "cyklokapron",
    "quinolone": "fluoroquinolone",
    "nicotine replacement": "nicorette|nicotine patch|nicotine patches|nicotine gum",
    "benzoyl peroxide": "benzac|acnecide",
}  # fmt: skip

AMBIGUOUS = _listed("""
aids all alert balance care comfort control diet dose drug duo easy energy ensure equal excel family fast focus
forte free fresh gold good halo health home iron joy kid kids life light lotion maximum may med natural nose one
oral original pain patch plus power prime protect pure real relief rest rhythm senior serene simple skin sleep
special spray star start strong super tab tablet tabs the tonic total trio ultra vision vital well women adult
alka asa aspire baby benefit block blue bone calm cap chest cold cool cough daily day eye eyes first flu green
heart hot ice ideal jet label lens link max men mild mint night norm omega pace pearl peak pep plan point prep
quick red rely root rose safe salt sea silk smart soft solo sport stress sun sure target test time title top
touch true unity vent view wash water white website cite author date publisher mood concord access angel arrow
aura basic boost bravo clean clear compete complete compound cover drops extend factor fem fit force form
formula full gas gel glow google harmony impact journal lady lipid mask media mega met mini move multi new news
no none nova now odor pal parade path pea phase plain planet potent premium pro quit ref relax remedy restore
rid select sen shield signal sinus slim smooth solution source spectrum speed stop strip style surge switch
system tape tea team tend tone tops tract trans triple trust twin urban vista voice watch wave wax web year
young zone acid sodium potassium calcium hydrochloride maleate sulfate sulphate cream ointment tablets capsules
suspension injection powder oil extract liquid dextrose sugar alcohol ethanol caffeine estrogen steroid hormone
vitamin mineral base anhydrous monohydrate tartrate succinate citrate acetate phosphate besylate mesylate
fumarate bromide chloride patent company brand trade name names also called known generic product other others
various inn usan ban jan index substance agent crack weed grass smack horse china dope junk blow coke snow
cristal crystal uppers downers goldline rugby major barr teva ratio mylan apo sandoz actavis novo gen pms desert
dawn evening today tomorrow mirage crescent advance advantage alli aim arm bell bond bob camp chip cope cure dag
dean elan emerald era fan flex gain jack janus kit lace lake march mark mist nature nerve olive oxford part
peace pin plum portal prince prof profile radiant rage regain ruby sage salve scan score seal secure sedate shot
silver sol spark spirit steady stem stern sting summit tag tail tan tarn term tide tip titan topic torch torn
trace track triumph trophy urge vale vast verse vigor visor wink x y z coal contraceptive peppermint tranexamic
cortisol aman infex nitric lebic remid penny pill eve polish alta zinc copper bio activated
""")

_PLAIN = re.compile(r"^[a-z][a-z]{3,17}$")
_LATIN = re.compile(r"(?:um|ina|ine hcl|inum|olum|idum|atum|ilum|anum|enum|onum)$")


def main(folder: Path) -> None:
    """Print the table for the source files in `folder`."""
    known = {name.replace("-", " ") for name in COMMON} | _nhs(folder) | set(EXTRA)
    variants: dict[str, set[str]] = {name: set() for name in known}
    with (folder / "drug_variants.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name, variant = row["canonical"].lower(), row["variant"].lower().strip()
            if name in known and _usable(variant, name):
                variants[name].add(variant)
    for name, more in EXTRA.items():
        variants[name] |= set(more.split("|")) - {name}
    _print(_without_doubles(variants))


def _nhs(folder: Path) -> set[str]:
    rows = json.loads((folder / "all_nhs_drugs.json").read_text(encoding="utf-8"))
    first = {str(row["name"]).split(" (")[0].split(" for ")[0].split()[0].lower() for row in rows}
    aliases = {v for more in EXTRA.values() for v in re.split(r"[ |]", more)}
    return {
        name
        for name in first
        if _PLAIN.match(name) and name not in AMBIGUOUS | aliases | {"low-dose", "buscopan", "benzoyl", "nicotine"}
    }


def _usable(variant: str, name: str) -> bool:
    if variant == name or variant in AMBIGUOUS or not _PLAIN.match(variant):
        return False
    # Latin and Spanish endings (ibuprofenum, warfarina) are never said in an English consultation.
    return not (variant.startswith(name[:5]) and _LATIN.search(variant)) and not variant.startswith(name)


def _without_doubles(variants: dict[str, set[str]]) -> dict[str, set[str]]:
    """Leave a variant with the drug that names it in `EXTRA`, otherwise with the first in order; never under two."""
    taken = {v: name for name, more in EXTRA.items() for v in more.split("|")}
    for name in sorted(variants):
        if name in taken and taken[name] != name:
            variants[taken[name]] |= variants.pop(name)
    for name in sorted(variants):
        for variant in sorted(variants[name]):
            taken.setdefault(variant, name)
    return {n: {v for v in vs if taken[v] == n and v not in variants} for n, vs in variants.items()}


def _print(variants: dict[str, set[str]]) -> None:
    print("# Drugs and their other names.  Derived by deploy/derive_drugs.py; sources and licences in README.md.")
    for name in sorted(variants):
        print(f"{name}: {' | '.join(sorted(variants[name]))}".rstrip(": "))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
