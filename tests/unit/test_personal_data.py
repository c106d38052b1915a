"""Personal data by pattern and checksum: what is found, and what looks alike and is left. All numbers are made up."""
# ruff: noqa: RUF001  (full-width characters are what some of it is about)

import pytest

from guard.personal import FINDERS, plain
from guard.spans import masked, without_overlaps


def mask(text: str) -> str:
    spans = without_overlaps(span for find in FINDERS.values() for span in find(plain(text)))
    return masked(text, spans)


def found(text: str, label: str) -> list[str]:
    return [text[span.start : span.end] for span in FINDERS[label](plain(text))]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("주민번호는 900101-1234568입니다", "900101-1234568"),  # checksum 8
        ("900101-1234567", "900101-1234567"),  # none since October 2020, whoever gets it
        ("(850315 - 2345678)", "850315 - 2345678"),
        ("외국인 등록: 880229-5123456", "880229-5123456"),  # 1988 had such a day
        ("211005-3999999", "211005-3999999"),
        ("９００１０１－１２３４５６８", "９００１０１－１２３４５６８"),
        ("id 9001011234568.", "9001011234568"),
        ("2110053999999", "2110053999999"),  # born since October 2020: no checksum to ask for
        ("주민등록번호 9001011234567", "9001011234567"),
    ],
)
def test_a_resident_registration_number_is_found(text: str, number: str) -> None:
    assert [number] == found(text, "KR_RRN")


@pytest.mark.parametrize(
    "text",
    [
        "901301-1234567",  # no thirteenth month
        "900230-1234567",
        "880229-7123456",  # 2088 is to come
        "870229-1123456",  # 1987 had no such day
        "900101-9234567",
        "900101-0234567",
        "1900101-1234568",
        "900101-12345678",
        "9001011234567",  # unbroken, no checksum, nothing beside it
        "ab9001011234568",
        "1700000000000",
    ],
)
def test_what_looks_like_a_resident_registration_number_is_left(text: str) -> None:
    assert [] == found(text, "KR_RRN")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("010-1234-5678로 전화", "010-1234-5678"),
        ("010 1234 5678", "010 1234 5678"),
        ("010.1234.5678", "010.1234.5678"),
        ("01012345678", "01012345678"),
        ("011-234-5678", "011-234-5678"),
        ("02-312-4567", "02-312-4567"),
        ("(031) 312-4567", "(031) 312-4567"),
        ("070-8888-1234", "070-8888-1234"),
        ("연락처 0212345678", "0212345678"),
        ("+82 10-1234-5678", "+82 10-1234-5678"),
        ("+82-2-312-4567", "+82-2-312-4567"),
        ("+44 20 7946 0958", "+44 20 7946 0958"),
        ("call (415) 555-2671 now", "(415) 555-2671"),
        ("415-555-2671", "415-555-2671"),
        ("phone 4155552671", "4155552671"),
    ],
)
def test_a_phone_number_is_found(text: str, number: str) -> None:
    assert number in found(text, "PHONE")


@pytest.mark.parametrize(
    "text",
    [
        "1588-1234",  # a company's
        "2026-11-21",
        "2026-11-21T10:00:00.123456789",
        "192.168.100.200",
        "4155552671",  # nothing says that it is one
        "411-555-2671 is no area",
        "0212345678",
        "price 1,234,567,890",
        "010-12-5678",
        "9010-1234-5678-1",
    ],
)
def test_what_looks_like_a_phone_number_is_left(text: str) -> None:
    assert [] == found(text, "PHONE")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("카드 4111 1111 1111 1111 입니다", "4111 1111 1111 1111"),
        ("5500-0000-0000-0004", "5500-0000-0000-0004"),
        ("4111111111111111", "4111111111111111"),
        ("3782 822463 10005", "3782 822463 10005"),
        ("378282246310005,", "378282246310005"),
    ],
)
def test_a_card_number_is_found(text: str, number: str) -> None:
    assert [number] == found(text, "CARD")


@pytest.mark.parametrize(
    "text",
    ["4111 1111 1111 1112", "1111111111111111", "0000000000000000", "41111111111111111111", "4111-1111 1111 1111"],
)
def test_what_looks_like_a_card_number_is_left(text: str) -> None:
    assert [] == found(text, "CARD")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("신한은행 110-123-456789", "110-123-456789"),
        ("계좌번호: 333301-04-567890", "333301-04-567890"),
        ("110-123-456789 (국민)으로 보내세요", "110-123-456789"),
        ("account no. 12345678901", "12345678901"),
        ("카카오뱅크 3333-01-4567890 홍길동", "3333-01-4567890"),
    ],
)
def test_a_bank_account_is_found_beside_a_word_that_tells(text: str, number: str) -> None:
    assert [number] == found(text, "BANK_ACCOUNT")


@pytest.mark.parametrize(
    "text",
    [
        "주문 110-123-456789",
        "은행 사업자등록번호 123-45-67890",
        "은행 2026-11-21",
        "은행에서 만난 사람과 긴 이야기를 오래도록 아주 천천히 나누고 나서야 알게 된 그 번호 12345678901",
    ],
)
def test_what_looks_like_a_bank_account_is_left(text: str) -> None:
    assert [] == found(text, "BANK_ACCOUNT")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("foo.bar+x@corp.co.kr에", "foo.bar+x@corp.co.kr"),
        ("<a_b%c@x-y.example>", "a_b%c@x-y.example"),
        ("kim@회사.한국으로", "kim@회사.한국"),
        ("보내기：kim＠corp．com", "kim＠corp．com"),
        ("mailto:a@b.io.", "a@b.io"),
    ],
)
def test_an_email_address_is_found(text: str, address: str) -> None:
    assert [address] == found(text, "EMAIL")


@pytest.mark.parametrize("text", ["@name", "a@b", "a @ b.com", "user@localhost", "x@.com", "a@b.c", "git@@host.com"])
def test_what_looks_like_an_email_address_is_left(text: str) -> None:
    assert [] == found(text, "EMAIL")


def test_where_two_are_found_at_one_place_the_surer_one_counts() -> None:
    assert "<PHONE>, 계좌 <BANK_ACCOUNT>, <CARD>, <KR_RRN>, <EMAIL>" == mask(
        "+1 415 555 2671, 계좌 110-123-456789, 4111-1111-1111-1111, 900101-1234568, a.b@c.kr"
    )


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("account 315 003 137770 (bank)", "account <BANK_ACCOUNT><PHONE> (bank)"),
        ("4837423077538330-kim@corp.kr", "<EMAIL>"),
        ("483742307753833+@corp.kr", "<CARD><EMAIL>"),
    ],
)
def test_where_two_overlap_nothing_of_either_is_left(text: str, after: str) -> None:
    assert after == mask(text)
