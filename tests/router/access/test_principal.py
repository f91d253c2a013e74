"""A caller as it is stored with work that runs later."""

from router.access.principal import Principal


def test_it_is_read_as_it_was() -> None:
    principal = Principal("acme", "key_1", frozenset("ab"), highest_priority=-3, reasoning="reasoning")
    assert Principal.of(principal.stored()) == principal


def test_what_an_older_gateway_stored_is_read_too() -> None:
    assert Principal.of({"tenant": "acme", "key": "", "models": None, "user": "ada"}) == Principal("acme", user="ada")


def test_priorities_count_as_requests_do() -> None:
    assert [Principal(highest_priority=highest).ranked(5) for highest in (None, -9, -5, 0, 7)] == [5, 5, 5, 0, -7]
