from hypothesis import given
from hypothesis import strategies as st

from router.harmony.vault import Vault


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_was_put_is_found_by_its_tenant_alone() -> None:
    vault = Vault()
    vault.put("a", "1", "thought")
    vault.put("a", "2", "other")
    assert vault.get("a", ["1", "2", "3"]) == {"1": "thought", "2": "other"}
    assert vault.get("b", ["1"]) == {}


def test_it_expires_and_then_takes_no_memory() -> None:
    clock = Clock()
    vault = Vault(lifetime_s=10, clock=clock)
    vault.put("a", "1", "thought")
    clock.now = 9.9
    assert vault.get("a", ["1"]) == {"1": "thought"}
    clock.now = 10.0
    assert vault.get("a", ["1"]) == {}
    vault.put("a", "2", "")
    alone = Vault()
    alone.put("a", "2", "")
    assert vault.bytes == alone.bytes


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    vault = Vault(most_bytes=10_000)
    for number in range(100):
        vault.put("a", str(number % 50), "x" * 500)
        assert vault.bytes <= 10_000
    kept = vault.get("a", [str(number) for number in range(50)])
    assert sorted(kept, key=int) == ["47", "48", "49"]
    vault.put("a", "huge", "x" * 10_000)
    assert vault.get("a", ["49", "huge"]) == {}
    assert vault.bytes == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.integers(0, 800)), max_size=60))
def test_who_has_no_more_than_an_equal_share_loses_nothing(puts: list[tuple[str, int, int]]) -> None:
    vault = Vault(most_bytes=12_000)
    alone = {tenant: Vault(most_bytes=4_000) for tenant in "abc"}  # with a third of the memory to themselves
    for tenant, call, length in puts:
        vault.put(tenant, str(call), "x" * length)
        alone[tenant].put(tenant, str(call), "x" * length)
        assert vault.bytes <= 12_000
    calls = [str(call) for call in range(31)]
    for tenant, own in alone.items():
        assert own.get(tenant, calls).keys() <= vault.get(tenant, calls).keys()
