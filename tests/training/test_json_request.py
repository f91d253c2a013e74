import json
import random
import re

from ossia.common import vocabulary
from tests.training.given import answer, check, tasks, texts
from training.kinds.json_request import KINDS, Field, _in_words, _json_schema
from training.split import held_out

make = KINDS["json"]
EVERY = tasks(make, count=800) + tasks(make, "held-out")


def test_every_kind() -> None:
    check(make, longest=300)


def test_the_object_has_the_fields_of_the_request_in_order() -> None:
    for task in EVERY:
        made = json.loads(answer(task))
        assert json.dumps(made, separators=(",", ":")) == answer(task)
        assert 1 <= len(made) <= 3
        places = [re.search(rf"\b{key}\b", texts(task, "developer") or texts(task)) for key in made]
        assert all(places)


def test_schemas_are_followed() -> None:
    types = {str: "string", int: "integer", bool: "boolean"}
    schemas = [(task, match[0]) for task in EVERY if (match := re.search(r'\{"type".*\}', texts(task, "developer")))]
    assert len(schemas) > 50
    for task, schema in schemas:
        made = json.loads(answer(task))
        stated = json.loads(schema)
        assert list(made) == list(stated["properties"]) == stated["required"]
        assert [types[type(value)] for value in made.values()] == [each["type"] for each in stated["properties"].values()]


def test_values_are_the_users() -> None:
    for task in EVERY:
        for value in json.loads(answer(task)).values():
            assert isinstance(value, bool) or re.search(rf"(?<!\w){value}(?!\w)", texts(task))


def test_a_value_is_found_by_the_one_token_before_it() -> None:
    joints = set()
    for task in EVERY:
        facts = task.analysis.split("Fields: ")[2].split(".")[0]
        for key, value in json.loads(answer(task)).items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            match = re.search(rf"\b{key}(:| [\w=]+) {text} [ABC]", facts)
            assert match, task.analysis
            joints.add(match[1])
            assert len(vocabulary.encode(match[1])) == 1
            assert match[1] == ":" or f"{match[1]} {text}" in texts(task)
    assert {":", " is", " =", " in", " from"} <= joints


def test_facts_may_be_true_or_not() -> None:
    said = [(task, json.loads(answer(task)).get("married")) for task in tasks(make, count=1500) if " married" in texts(task)]
    stated = [(value, "not married" in texts(task)) for task, value in said if value is not None]
    assert {(True, False), (False, True)} == set(stated)


def test_equal_json_is_accepted() -> None:
    task = next(task for task in EVERY if re.fullmatch(r'\{"\w+":"\w+","\w+":\d+\}', answer(task)))
    made = json.loads(answer(task))
    (text, name), (count, number) = made.items()
    assert task.accepts
    assert task.accepts(json.dumps({count: number, text: name}, indent=2))
    for wrong in ({text: name}, {**made, "more": 1}, {**made, count: float(number)}, {**made, count: str(number)}, [made]):
        assert not task.accepts(json.dumps(wrong))
    assert not task.accepts(f"Here it is: {answer(task)}")


def test_layouts() -> None:
    fields = [Field("name", "Plovdan"), Field("age", 34), Field("late", True)]
    assert _in_words(fields) == "name (string), age (integer) and late (boolean)."
    assert json.loads(_json_schema(fields))["properties"]["late"] == {"type": "boolean"}


def test_names_are_held_out() -> None:
    for split in ("train", "held-out"):
        names = {json.loads(answer(task)).get("name") for task in tasks(make, split)} - {None}
        assert names and {held_out(name) for name in names} == {split == "held-out"}


def test_the_order_is_the_requests_and_not_the_sentences() -> None:
    rng = random.Random(1)
    made = [make(rng, "train", "low") for _ in range(200)]
    orders = [(task, list(json.loads(answer(task)).values())) for task in made]
    differ = sum(
        [texts(task).find(str(value)) for value in values] != sorted(texts(task).find(str(value)) for value in values)
        for task, values in orders
    )
    assert 40 < differ < 160
