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
