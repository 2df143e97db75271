"""Check digits of cards, bank accounts and national numbers. Each takes bare digits (and letters), without spaces."""

from datetime import date

_LUHN_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

IBAN_LENGTHS = {
    country: int(length)
    for length, countries in {
        "15": "NO", "16": "BE", "18": "DK FI FO GL NL SD FK", "19": "MK SI", "20": "AT BA EE KZ LT LU XK MN",
        "21": "CH HR LI LV", "22": "BG BH CR DE GB GE IE ME RS VA", "23": "AE GI IL IQ TL SO OM", "24":
        "AD CZ ES MD PK RO SA SE SK TN VG", "25": "LY PT ST", "26": "IS TR", "27": "BI DJ FR GR IT MC MR SM", "28":
        "AL AZ BY CY DO GT HU LB NI PL SV HN", "29": "BR EG PS QA UA", "30": "JO KW MU YE", "31": "MT SC", "32": "LC",
        "33": "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
"""Length of an account number by country (ISO 13616, SWIFT's registry)."""


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: payment cards."""
    reverse = digits[::-1]
    total = sum(map(int, reverse[::2])) + sum(_LUHN_DOUBLED[int(digit)] for digit in reverse[1::2])
    return total % 10 == 0


def card(digits: str) -> bool:
    """A card's number: a payment network's first digits, the length that goes with them, and Luhn's check digit."""
    if "2221" <= digits[:4] <= "2720":
        lengths = range(16, 17)
    elif digits[:4] in ("1800", "2131"):
        lengths = range(15, 16)
    else:
        lengths = {"3": range(14, 20), "4": range(13, 20), "5": range(12, 20), "6": range(12, 20)}.get(
            digits[0], range(0)
        )
    return len(digits) in lengths and luhn(digits)


def iban(number: str) -> bool:
    """ISO 13616: the country's length, and 1 modulo 97 (ISO/IEC 7064)."""
    number = number.upper()
    if IBAN_LENGTHS.get(number[:2]) != len(number):
        return False
    return int("".join(str(int(char, 36)) for char in number[4:] + number[:4])) % 97 == 1


def ssn(digits: str) -> bool:
    """United States: no check digit; areas, groups and serials that were never given are known."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in ("000", "666") and area[0] != "9" and group != "00" and serial != "0000"


def nino(number: str) -> bool:
    """United Kingdom: no check digit; prefixes that are never given are known."""
    number = number.upper()
    return (
        number[0] not in "DFIQUV"
        and number[1] not in "DFIOQUV"
        and number[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")
    )


def steuer_id(digits: str) -> bool:
    """Germany: one digit of the first ten twice or thrice, the check digit by ISO/IEC 7064 MOD 11,10."""
    if digits[0] == "0" or len(set(digits[:10])) not in (8, 9):
        return False
    product = 10
    for digit in digits[:10]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def nir(number: str) -> bool:
    """France: 13 characters (Corsica's departments have a letter) and 97 less their value modulo 97."""
    body = number[:13].upper().replace("2A", "19").replace("2B", "18")
    return number[0] in "12" and body.isdecimal() and 97 - int(body) % 97 == int(number[13:])


def dni(number: str) -> bool:
    """Spain: 8 digits (a foreigner's begin with X, Y or Z) and the letter of their value modulo 23."""
    number = number.upper()
    digits = str("XYZ".find(number[0])) + number[1:8] if number[0] in "XYZ" else number[:8]
    return digits.isdecimal() and "TRWAGMYFPDXBNJZSQVHLCKE"[int(digits) % 23] == number[8]


def bsn(digits: str) -> bool:
    """Netherlands: the eleven test, its last weight -1."""
    weights = (9, 8, 7, 6, 5, 4, 3, 2, -1)
    return digits != "0" * 9 and sum(w * int(digit) for w, digit in zip(weights, digits, strict=True)) % 11 == 0


def pesel(digits: str) -> bool:
    """Poland: a day of birth whose month tells the century, and weights 1 3 7 9."""
    year, month, day = int(digits[:2]), int(digits[2:4]), int(digits[4:6])
    century = {0: 1900, 1: 2000, 2: 2100, 3: 2200, 4: 1800}[month // 20]
    try:
        date(century + year, month % 20, day)
    except ValueError:
        return False
    weights = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)
    return sum(w * int(digit) for w, digit in zip(weights, digits, strict=True)) % 10 == 0
