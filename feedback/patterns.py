"""What in a text names a person or opens a door, found by patterns: what ``HEED_REDACT=patterns`` takes out.

=============  =================================================================================================
``[SECRET]``   keys of well-known forms, private keys, passwords in URLs, what stands after ``password:`` and the
               like, and long words that mix capitals, small letters and digits as no word does
``[EMAIL]``    e-mail addresses
``[IBAN]``     account numbers whose check digits are right (ISO 13616: mod 97)
``[CARD]``     payment cards: 13 to 19 digits of a known issuer whose check digit is right (Luhn, ISO/IEC 7812)
``[IP]``       IP addresses, of version 4 and 6
``[PHONE]``    international numbers, national ones with a leading 0, three-three-four ones, China's mobile ones
=============  =================================================================================================

Chinese, Japanese, Korean, Thai and their like may stand right beside, and figures may be full-width ones. Names and
postal addresses need a model: see ``presidio.py``. Every pattern reads a character a bounded number of
times, whatever the text. What comes out is redacted already: the text is read until nothing more is found.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from feedback.errors import RedactionFailed

PASSES = 8
"""Readings of a text. Ordinary texts need two, the last of which finds nothing."""

Ends = Callable[
    [str, int, int], int | None
]  # (text, start, end of the match): where it really ends; None: no match


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of thing, and what it is replaced by."""

    placeholder: str
    pattern: re.Pattern[str]
    signs: tuple[str, ...]  # one of them is in every text that has one: the others need not be searched
    ends: Ends | None = None  # a second look at what the pattern found; None: it is right as it is

    def apply(self, text: str) -> str:
        """The text with a placeholder for each."""
        seen = narrow(text)
        if not any(sign in seen for sign in self.signs):
            return text
        kept, done = [], 0
        for start, end in self._found(seen):
            kept += [text[done:start], self.placeholder]
            done = end
        return "".join([*kept, text[done:]]) if kept else text

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        at = 0
        while found := self.pattern.search(text, at):
            start, end = found.span()
            last = end if self.ends is None else self.ends(text, start, end)
            if last is not None:
                yield start, last
            at = max(last or 0, start + 1)


def _any(*forms: str) -> re.Pattern[str]:
    return re.compile("|".join(forms))


# Scripts whose words stand right beside what is none of theirs: without spaces, or with endings as Korean has them.
_JOINED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uffdc"
    r"\U00020000-\U0003ffff"
)
_LETTER = rf"[^\W{_JOINED}]"  # or figure, of any other script
_NARROW = {ord("\u3000"): " "} | {
    code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if chr(code - 0xFEE0) not in ":,;!?"
}  # full-width signs; not those that part what stands before from what stands behind, as no space does there
_NARROW |= {
    ord(zero) + value: str(value)
    for zero in "٠۰०০੦૦୦௦౦೦൦๐໐༠၀០"  # figures of other scripts
    for value in range(10)
}
_WIDE = re.compile(f"[{''.join(map(chr, _NARROW))}]")
_BEGIN, _END = rf"(?<!{_LETTER})", rf"(?!{_LETTER})"
_WORD = rf"(?<!-){_BEGIN}"
_NAMES = (
    "pass", "pwd", "secret", "token", "key", "authorization", "contrase", "senha", "wachtwoord", "пароль", "密", "口令",
    "パスワード", "暗証番号", "비밀번호", "암호",
)  # fmt: skip
_NAMED = re.compile(
    r"(?<![a-z])(?:password|passwort|passphrase|passwd|pwd|secret|token|api[ _-]?key|access[ _-]?key|"
    r"private[ _-]?key|client[ _-]?secret|authorization|contrase[ñn]a|mot de passe|senha|wachtwoord|пароль|"
    r"密[码碼钥鑰]|口令|パスワード|暗証番号|비밀번호|암호)s?[\"']?"
    r"[ \t]{0,3}(?:[:=：]|\b(?:is|ist|est?|é)(?=[ \t]{1,3}\S{0,40}[0-9])|"
    r"[是为為は는은](?=[ \t]{0,3}[!-~]{0,40}[0-9]))[ \t]{0,3}"
    r"(?:(?:bearer|basic)[ \t]{1,3})?[\"']?"
    r"(?!(?:bearer|basic)\b)([^\s\"'\[\],;<>，。；、]{6,256}+)",
    re.IGNORECASE,
)
_KNOWN = _any(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]*+(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?",
    _WORD + r"(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}+",  # OpenAI, Anthropic, Stripe
    _WORD
    + r"(?:gh[pousr]_|github_pat_|glpat-|hf_|npm_|pypi-|heed-|xox[abeoprs]-|dop_v1_|SG\.)[A-Za-z0-9_.-]{16,}+",
    _WORD + r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])",  # AWS
    _WORD + r"AIza[A-Za-z0-9_-]{30,}+",  # Google
    _WORD + r"eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]*+",  # JSON web tokens
    r"(?<=://)[^\s/@:\[\]]{1,128}+:[^\s/@\[\]]{1,256}+(?=@)",  # of a URL
)
_LONG = re.compile(_WORD + r"[A-Za-z0-9_-]{20,}+")
_LOCAL = r".!#$%&'*+/=?^`{|}~-"  # besides letters and figures
_EMAIL = re.compile(
    rf"(?<![{_LOCAL}]){_BEGIN}(?:{_LETTER}|[{_LOCAL}])++@(?:{_LETTER}|-)+(?:\.(?:{_LETTER}|-)+)+"
)
_EMAIL_OF_ANY_SCRIPT = re.compile(rf"(?<![\w{_LOCAL}])[\w{_LOCAL}]++@[\w-]+(?:\.[\w-]+)+")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?=[ -]?[A-Za-z0-9]{4})")
_CARD = re.compile(  # in fours, as American Express and Diners write them, or undivided
    r"(?<![0-9])(?<![0-9]\.)(?:[2-6][0-9]{3}([ -]?)[0-9]{4}\1[0-9]{4}\1[0-9]{1,4}(?:\1[0-9]{3})?"
    r"|3[0-9]{3}([ -]?)[0-9]{6}\2[0-9]{4,5}|[2-6][0-9]{12,18})(?![0-9])"
)
_IP = re.compile(rf"(?<![.:]){_BEGIN}(?:[0-9]{{1,3}}\.){{3}}[0-9]{{1,3}}{_END}(?!\.[0-9])")
_IP6 = re.compile(
    rf"(?<![.:]){_BEGIN}(?=[0-9A-Fa-f]{{0,4}}:)[0-9A-Fa-f:]{{2,39}}+(?:\.[0-9.]{{1,11}})?(?!:){_END}"
)
_NATIONAL = rf"(?<![.,/+-])(?:(?<!:)|(?<=[{_JOINED}]:)){_BEGIN}"  # before a number that says no country
_PHONE = _any(
    rf"(?<!\+){_BEGIN}(?:\+|00)[ ]?\(?[1-9][0-9]{{0,2}}\)?(?:[ ./()-]{{0,2}}[0-9]){{6,12}}(?![0-9])",
    rf"{_NATIONAL}\(?0[1-9][0-9]{{0,3}}\)?(?:[ ./-]{{0,1}}[0-9]){{5,10}}(?:{_END}(?![.,:/-][0-9]))",
    rf"{_NATIONAL}\(?[2-9][0-9]{{2}}\)?[ .-]{{1,2}}[0-9]{{3}}[ .-][0-9]{{4}}(?:{_END}(?![.,:/-][0-9]))",
    rf"{_NATIONAL}1[3-9][0-9](?P<gap>[ -]?)[0-9]{{4}}(?P=gap)[0-9]{{4}}(?:{_END}(?![.,:/-][0-9]))",  # of China
)
IBAN_LENGTHS = {
    name: length
    for length, names in {
        15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV", 29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 33: "RU",
    }.items()
    for name in names.split()
}  # fmt: skip


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others."""
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + index % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def mod_97(iban: str) -> bool:
    """Whether an IBAN's check digits are right; without separators, in capitals."""
    return int("".join(str(int(one, 36)) for one in iban[4:] + iban[:4])) % 97 == 1


def _iban(text: str, start: int, _: int) -> int | None:
    """Its end, by the length that its country's have."""
    length = IBAN_LENGTHS.get(text[start : start + 2].upper())
    plain, at = "", start
    while length is not None and at < len(text) and len(plain) < length:
        here = text[at]
        if here.isascii() and here.isalnum():
            plain += here
        elif here not in " -" or not text[at - 1].isalnum():
            return None
        at += 1
    if length is None or len(plain) < length or (at < len(text) and _alphanumeric(text[at])):
        return None
    return at if mod_97(plain.upper()) else None


def _alphanumeric(character: str) -> bool:
    return character.isascii() and character.isalnum()


def _card(text: str, start: int, end: int) -> int | None:
    return end if luhn("".join(filter(str.isdigit, text[start:end]))) else None


def _ip(text: str, start: int, end: int) -> int | None:
    """The end, when it is an address and no time or name of a programming language."""
    said = text[start:end].rstrip(":")
    try:
        ipaddress.ip_address(said)
    except ValueError:
        return None
    return start + len(said) if any(one.isdigit() for one in said) else None


def _secret(text: str, start: int, end: int) -> int | None:
    """A long word is one when it mixes what words do not: 3 capitals, 3 small letters, 3 digits; or is all hex."""
    word = text[start:end]
    if len(word) >= 32 and all(one in "0123456789abcdef" for one in word.lower()):
        return end
    counts = [sum(map(kind, word)) for kind in (str.isupper, str.islower, str.isdigit)]
    return end if min(counts) >= 3 else None


_FIGURES = tuple("0123456789")
_PREFIXES = (
    "-----BEGIN", "sk-", "sk_", "pk-", "pk_", "rk-", "rk_", "gh", "glpat-", "hf_", "npm_", "pypi-", "heed-", "xox",
    "dop_v1_", "SG.", "AKIA", "ASIA", "AIza", "eyJ", "://",
)  # fmt: skip
RULES = (
    Rule("[SECRET]", _KNOWN, _PREFIXES),
    Rule("[EMAIL]", _EMAIL, ("@",)),
    Rule("[EMAIL]", _EMAIL_OF_ANY_SCRIPT, ("@",)),
    Rule("[SECRET]", _LONG, _FIGURES, _secret),
    Rule("[IBAN]", _IBAN, _FIGURES, _iban),
    Rule("[CARD]", _CARD, _FIGURES, _card),
    Rule("[IP]", _IP, _FIGURES, _ip),
    Rule("[IP]", _IP6, (":",), _ip),
    Rule("[PHONE]", _PHONE, _FIGURES),
)


def redact(text: str) -> str:
    """The text with placeholders; the same again when given again. Raises RedactionFailed for one in which new
    things go on appearing, which only somebody who means it can write.
    """
    for _ in range(PASSES):
        before, text = text, _named(text)
        for rule in RULES:
            text = rule.apply(text)
        if text == before:
            return text
    raise RedactionFailed(f"{PASSES} readings of a text did not find all there is")


def narrow(text: str) -> str:
    """The text with full-width letters and signs, and figures of any script, as ASCII's; as long as before."""
    return text if text.isascii() or not _WIDE.search(text) else text.translate(_NARROW)


def _named(text: str) -> str:
    """Only the values of what is named go: that there was a password may be said."""
    seen = narrow(text)
    small = seen.lower()
    if not any(name in small for name in _NAMES):
        return text
    kept, done = [], 0
    for found in _NAMED.finditer(seen):
        kept += [text[done : found.start(1)], "[SECRET]"]
        done = found.end(1)
    return "".join([*kept, text[done:]])
