import pytest

from fastframe._address import address_text


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 9000), "127.0.0.1:9000"),
        (("::1", 9000, 0, 0), "[::1]:9000"),
        ("/run/socket", "unix:/run/socket"),
        (b"\0abstract", "unix:\0abstract"),
        ("", "unix:"),
        (None, "unix:"),
    ],
)
def test_an_address_is_text(address, text):
    assert address_text(address) == text
