"""Which language a corpus is in, as a BCP 47 tag: by its own word, its folder, or its name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from miscible.probe.dataset import UNKNOWN_LANGUAGE

_LANGUAGES = """
abk ab Abkhaz; afr af Afrikaans; akk - Akkadian; aln - Gheg; amh am Amharic; apu - Apurina;
aqz - Akuntsu; arb ar Arabic; ara ar -; azz - -; bel be Belarusian; ben bn Bengali; bho - Bhojpuri;
bor - Bororo; bre br Breton; bua - Buryat; bul bg Bulgarian; cat ca Catalan; ces cs Czech;
chu cu -; cym cy Welsh; dan da Danish; deu de German; egy - -; ell el Greek; eng en English;
est et Estonian; eus eu Basque; fao fo Faroese; fas fa Persian; fin fi Finnish; fra fr French;
frm - -; fro - -; gla gd -; gle ga Irish; glg gl Galician; got - Gothic; grc - -; guj gu Gujarati;
hbo - -; hbs - Serbo-Croatian; heb he Hebrew; hin hi Hindi; hit - Hittite; hrv hr Croatian;
hsb - -; hun hu Hungarian; hye hy Armenian; hyw - -; ind id Indonesian; isl is Icelandic;
ita it Italian; jpn ja Japanese; kat ka Georgian; kaz kk Kazakh; kir ky Kyrgyz; kmr - Kurmanji;
koi - -; kor ko Korean; kpv - -; krl - Karelian; kxh - -; lat la Latin; lav lv Latvian; lij - -;
lit lt Lithuanian; mar mr Marathi; mdf - Moksha; mkd mk Macedonian; mlt mt Maltese; myv - Erzya;
nds - -; nhi - -; nld nl Dutch; nno nn -; nob nb -; nor no Norwegian; olo - Livvi; orv - -; ota - -;
pcm - -; pol pl Polish; por pt Portuguese; quc - -; ron ro Romanian; rus ru Russian; sah - Yakut;
san sa Sanskrit; slk sk Slovak; slv sl Slovenian; sme se -; sms - -; spa es Spanish;
sqi sq Albanian; srp sr Serbian; swe sv Swedish; tam ta Tamil; tel te Telugu; tha th Thai; tpn - -;
ttc - -; tur tr Turkish; uig ug Uyghur; ukr uk Ukrainian; urb - -; urd ur Urdu; uzb uz Uzbek;
vep - Veps; vie vi Vietnamese; wbp - Warlpiri; wol wo Wolof; xcl - -; zho zh Chinese;
cmn zh Mandarin
"""
"""ISO 639-3, ISO 639-1, English name; a dash for none. BCP 47 (RFC 5646, 2.2.1) asks for the
shortest code. The languages of MultiBLiMP (arXiv 2504.02768) and some more."""

_TAGS: dict[str, str] = {}
for _entry in _LANGUAGES.split(";"):
    _three, _two, _name = _entry.split()
    _tag = _three if _two == "-" else _two
    _TAGS |= {name: _tag for name in (_three, _two, _name.lower()) if name != "-"}

_CORPORA = {
    "blimp": "en", "zorro": "en", "blimpnl": "nl", "jblimp": "ja", "rublimp": "ru", "sling": "zh",
    "turblimp": "tr", "zhoblimp": "zh",
}  # fmt: skip
_CORPUS = re.compile(rf"({'|'.join(_CORPORA)})(data|code|txt|main|master)*(zip)?")


def language_tag(word: str) -> str:
    """Return the tag that a corpus's own *word* for a language stands for; empty if unknown.

    A code (``eng``, ``en``), a name (``English``), or a tag (``zh_Hant``, ``en-GB``).
    """
    primary, *rest = re.split(r"[-_]", word.strip())
    known = _TAGS.get(word.strip().lower()) or _TAGS.get(primary.lower(), "")
    if not rest or not known or word.strip().lower() in _TAGS:
        return known
    subtags = "-".join((known, *rest))
    return subtags if re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8}){1,4}", subtags) else known


def language_of_path(folders: Sequence[str], outside: Sequence[str] = ()) -> str:
    """Return the language that the names of folders tell of; else that of an unknown one.

    The innermost of *folders* that is the code of a language counts (CLAMS ``fr``, MultiBLiMP
    ``fra``), then the innermost that is the name of a corpus of one language (``RuBLiMP-main``).

    Args:
        folders: those of the corpus, outermost first.
        outside: those that hold the corpus, outermost first. A code among them is somebody's
            abbreviation, the name of a corpus still tells.
    """
    for folder in reversed(folders):
        if folder in _TAGS and len(folder) <= 3:
            return _TAGS[folder]
    for folder in reversed((*outside, *folders)):
        corpus = _CORPUS.fullmatch(re.sub(r"[^a-z]", "", folder.lower()))
        if corpus:
            return _CORPORA[corpus[1]]
    return UNKNOWN_LANGUAGE
