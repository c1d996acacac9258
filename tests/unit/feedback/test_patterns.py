"""What patterns take out of a text, what they leave, and that hostile texts cost no more than others."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.errors import RedactionFailed
from feedback.patterns import luhn, mod_97, redact

FOUND = [
    ("write to Ann.Lee+news@mail.example.co.uk today", "write to [EMAIL] today"),
    ("mailto:bob@example.org, jürgen@müller.de", "mailto:[EMAIL], [EMAIL]"),
    ("card 4111 1111 1111 1111 12/27", "card [CARD] 12/27"),
    ("order 12 5500-0055-5555-5559.", "order 12 [CARD]."),
    ("amex 378282246310005, 3782 822463 10005", "amex [CARD], [CARD]"),
    ("visa4111111111111111", "visa[CARD]"),
    ("to DE89 3704 0044 0532 0130 00 please", "to [IBAN] please"),
    ("AT611904300234573201 abcd efgh", "[IBAN] abcd efgh"),
    ("gb82west12345698765432", "[IBAN]"),
    ("DE89370400440532013000 GB82WEST12345698765432", "[IBAN] [IBAN]"),
    ("from 192.168.1.10:8080 and 10.0.0.1.", "from [IP]:8080 and [IP]."),
    ("fe80::1, 2001:db8::ff00:42:8329", "[IP], [IP]"),
    ("call +49 30 1234567 or (030) 123-4567", "call [PHONE] or [PHONE]"),
    ("0171/1234567, 555-123-4567, (555) 123-4567", "[PHONE], [PHONE], [PHONE]"),
    ("00441632960001", "[PHONE]"),
    ("my password: hunter2!x and", "my password: [SECRET] and"),
    ("the password is hunter22", "the password is [SECRET]"),
    ('{"api_key": "abcdef123456"}', '{"api_key": "[SECRET]"}'),
    ("Authorization: Bearer abc.def-123", "Authorization: Bearer [SECRET]"),
    ("sk-proj-abcdefghijklmnop1234", "[SECRET]"),
    ("AKIAIOSFODNN7EXAMPLE", "[SECRET]"),
    ("ghp_0123456789abcdefABCDEF", "[SECRET]"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "[SECRET]"),
    ("postgres://me:pw@db/x", "postgres://[SECRET]@db/x"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "[SECRET]"),
    ("Tok3nABCdefGHI123jklMNO", "[SECRET]"),
    ("9f86d081884c7d659a2feaa0c55ad015", "[SECRET]"),
    ("我的邮箱是foo.bar@example.com请回复", "我的邮箱是[EMAIL]请回复"),
    ("ann@example.com으로, bob@example.orgまで", "[EMAIL]으로, [EMAIL]まで"),
    ("用户@例子.公司", "[EMAIL]"),
    ("电话+86 138 1234 5678谢谢", "电话[PHONE]谢谢"),
    ("手机13812345678。138-1234-5678", "手机[PHONE]。[PHONE]"),
    ("電話：03-1234-5678です", "電話：[PHONE]です"),
    ("電話:０９０－１２３４－５６７８です", "電話:[PHONE]です"),
    ("전화는 010-1234-5678입니다", "전화는 [PHONE]입니다"),
    ("โทร02-123-4567ครับ", "โทร[PHONE]ครับ"),
    ("اتصل ٠١٠١٢٣٤٥٦٧٨ الآن", "اتصل [PHONE] الآن"),
    ("फ़ोन ०९८७६५४३२१०", "फ़ोन [PHONE]"),
    ("卡号4111１１１１11111111到期", "卡号[CARD]到期"),
    ("服务器10.0.0.1的、fe80::1です", "服务器[IP]的、[IP]です"),
    ("密钥sk-proj-abcdefghijklmnop1234泄露", "密钥[SECRET]泄露"),
    ("密码：hunter2!x，谢谢", "密码：[SECRET]，谢谢"),
    ("密码是hunter22", "密码是[SECRET]"),
    ("パスワードは hunter22", "パスワードは [SECRET]"),
    ("비밀번호: hunter2!x", "비밀번호: [SECRET]"),
    ("Mein Passwort ist hunter22", "Mein Passwort ist [SECRET]"),
    ("mot de passe : hunter2!x", "mot de passe : [SECRET]"),
    ("Пароль: секрет12", "Пароль: [SECRET]"),
]
LEFT = [
    "We are open from 10:30:45 on 2024-11-30, 7 days a week.",
    "pi is 3.14159265358979, 1 000 000 of 4,294,967,296 in 1700000000 s",
    "std::vector and a::b, version 1.2.3, chapter 1-2-3, 2001-2002",
    "https://example.com/some/path-with-2024-words-in-it?x=1",
    "card 4111 1111 1111 1112",  # its check digit is wrong
    "DE88370400440532013000",  # and so are these
    "999.1.1.1",
    "@home and me@localhost, 5 @ 3",
    "the internationalisation-of-everything",
    "a token of love; the secret is out",
    "my password is incorrect",
    "123e4567-e89b-12d3-a456-426614174000",
    "密码是什么？密码错了。",
    "我们在10：30开门，共12345678901件",
    "订单2024-11-30，第3.14章，１２３円です",
]
PIECES = [
    "a@b.co", "@", ".", "x", "4111 1111 1111 1111", "4111", "1", "0", " ", "-", "+49", "(", ")", "DE89", "3704 0044",
    "DE89370400440532013000", "192.168.0.1", ":", "::1", "fe80", "password", "=", "is ", "sk-", "abcdefghijklmnop12",
    "://", "/", "[", "]", "[EMAIL]", "[SECRET]", "[PHONE]", "EMAIL", "555-123-4567", "0171", "A1b2C3d4E5", "é", "\n",
    "是", "は", "：", "１３８", "密码", "138",
    "-----BEGIN PRIVATE KEY-----", "eyJhbGciOiJ9.", "²", "\u0661", '"',
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), FOUND, ids=[text[:24] for text, _ in FOUND])
def test_it_is_taken_out(text: str, said: str) -> None:
    assert redact(text) == said


@pytest.mark.parametrize("text", LEFT, ids=[text[:24] for text in LEFT])
def test_it_is_left(text: str) -> None:
    assert redact(text) == text


def test_check_digits_by_the_standards_own_examples() -> None:
    assert luhn("79927398713")
    assert not luhn("79927398710")
    assert mod_97("GB82WEST12345698765432")
    assert not mod_97("GB83WEST12345698765432")


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_what_was_redacted_is_redacted_whatever_stands_beside_it(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(st.text(max_size=200))
def test_any_text_is_taken_and_stays_as_it_is_the_second_time(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(
    st.sampled_from([text for text, _ in FOUND]), st.lists(st.sampled_from(["hello", "x", "42"]), max_size=4)
)
def test_what_is_found_alone_is_found_between_words(text: str, words: list[str]) -> None:
    said = redact(" | ".join([*words, text, *words]))
    assert re.search(r"\[(EMAIL|CARD|IBAN|IP|PHONE|SECRET)\]", said)
    assert text not in said


HOSTILE = [
    "a", "a@", "a@a.", "a.", "1", "1 ", "4 ", "44 ", "4111 1111 1111 1111 ", "DE89 ", "DE89", ":", "1:", "1.", "+1(",
    "password:", "password ", "-----BEGIN PRIVATE KEY-----", "://a:",
    "eyJ", "eyJaaaaaaaa.", "sk-", "-", " ", "0", "00 ", "01 ", "[", "A1a", "a:b@", "é@é.é", "ab::1", "token is",
    "(555) ", "1.1.1.", "token is 1", "是", "是1", "是a@", "密码是", "密码：", "１", "138", "138 ", "는0",
]  # fmt: skip


@pytest.mark.timeout(600)  # a pattern that tries again and again would take hours for one of them
def test_a_megabyte_of_anything_ends() -> None:
    for piece in HOSTILE:
        text = piece * (50_000 // len(piece))
        once = redact(text)
        assert redact(once) == once, piece
    assert redact("a@" * 500_000) == "a@" * 500_000
    assert redact("1 " * 500_000) == "1 " * 500_000


def test_a_text_in_which_things_go_on_appearing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback.patterns.PASSES", 1)
    with pytest.raises(RedactionFailed):
        redact("a@b.co")
